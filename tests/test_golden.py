"""Every page and table of a small fixed set of results, word for word as in `golden/pages`.

`golden/results` has csv files and provenance as the stages leave them. After a change that is
meant, write the pages anew with `python tests/test_golden.py` and review their diff by eye.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from parameters import write_params

from pipeline import report as report_stage
from study.analysis import overlap
from study.claims.conditions import Setting
from study.claims.ledger import CLAIMS, grade, ledger_table
from study.claims.sources import Tables
from study.report.inputs import read_all
from study.report.render import page
from study.report.views import (
    ambiguity,
    contrasts,
    oracle,
    regression,
    schedule_search,
    seeds,
    table1,
    table2,
    table3,
)
from study.report.views.claims import claims_page
from study.spec.params import load_params

GOLDEN = Path(__file__).parent / "golden"
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}
SCALE = "miniature"
SHOWN_CLAIMS = ("baseline-struggles", "due-to-the-prior", "thirteen", "p-opmask", "no-overhead",
                "gain-where-ambiguous", "person-and-cat-overlap", "second-step")  # fmt: skip


def write_pages(root: Path) -> None:
    """What the reporting stages write from the results in `root`, which is the working folder."""
    write_params(PARAMS | {"scale": SCALE}, root)
    reports, runs_dir = root / "reports" / SCALE, root / "runs" / SCALE
    write_tables(reports / "tables", read_all(reports / "tables"), reports, runs_dir)
    chosen = [claim for claim in CLAIMS if claim.id in SHOWN_CLAIMS]
    setting = Setting.of(PARAMS | {"scale": SCALE}, {"train": {"counts": {"images": 3000}}})
    graded = grade(Tables(reports, "130k"), chosen, setting)
    ledger = ledger_table(graded).round(4)
    ledger.to_csv(reports / "claims.csv", index=False)
    (reports / "claims.md").write_text(claims_page(graded, ledger, SCALE))
    report_stage.run([])


def write_tables(folder: Path, frames: dict, reports: Path, runs_dir: Path) -> None:
    """A page a table; those of Tables 1 to 3 as LaTeX too."""
    points = read_all(reports / "figures")["figure3"]
    overlaps = overlap.load(runs_dir / "overlap.csv")
    regressions = (frames["regression"], frames["regression_readings"], points, overlaps)
    pages = {
        name: view.blocks(frames[name], SCALE)
        for name, view in {"table1": table1, "table2": table2, "table3": table3}.items()
    } | {
        "contrasts": contrasts.blocks(frames["contrasts"]),
        "oracle": oracle.blocks(frames["oracle"]),
        "schedule_search": schedule_search.blocks(frames["schedule_search"]),
        "ambiguity": ambiguity.blocks(frames["ambiguity"], 0.2),
        "regression": regression.blocks(*regressions, reading="other_class", scale=SCALE),
    }
    for name, blocks in pages.items():
        (folder / f"{name}.md").write_text(page(name, blocks))
    gains, names = seeds.gains(frames["per_class"], SCALE), frames["per_class"]["run"].unique()
    (folder / "seeds.md").write_text(seeds.seeds_page(gains, sorted(names), SCALE))
    for name, view in {"table1": table1, "table2": table2, "table3": table3}.items():
        (folder / f"{name}.tex").write_text(view.tex(frames[name], SCALE))
    (folder / "oracle.tex").write_text(oracle.tex(frames["oracle"], SCALE))


def made(root: Path) -> dict[str, str]:
    """The pages below `root`, without the page's style and code."""
    paths = [p for p in (root / "reports").rglob("*") if p.suffix in (".md", ".tex", ".html")]
    code = re.compile(r"(<style>|<script>).*?(</style>|</script>)", re.S)
    return {
        path.relative_to(root / "reports").as_posix(): code.sub(r"\1\2", path.read_text())
        for path in paths
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return make(tmp_path_factory.mktemp("golden"))


def make(root: Path) -> dict[str, str]:
    shutil.copytree(GOLDEN / "results", root, dirs_exist_ok=True)
    before = Path.cwd()
    os.chdir(root)
    try:
        write_pages(root)
    finally:
        os.chdir(before)
    return made(root)


NAMES = sorted(p.relative_to(GOLDEN / "pages").as_posix() for p in (GOLDEN / "pages").rglob("*.*"))


@pytest.mark.parametrize("name", NAMES)
def test_page_is_as_reviewed(pages, name):
    assert pages[name] == (GOLDEN / "pages" / name).read_text()


def test_every_page_has_been_reviewed(pages):
    assert sorted(pages) == NAMES and len(NAMES) == 17


if __name__ == "__main__":
    shutil.rmtree(GOLDEN / "pages", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in make(Path(folder)).items():
            path = GOLDEN / "pages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    sys.exit(0)
