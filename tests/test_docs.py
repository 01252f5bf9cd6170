"""What the documents say is so: numbers, links, commands."""

import importlib.util
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "notebooks" / "README.md",
]
DIRECTIONS = {"voc → non-voc": "voc_to_nonvoc", "non-voc → voc": "nonvoc_to_voc"}


def signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def test_gains_in_the_readme_are_those_of_the_report():
    metrics = json.loads((ROOT / "reports/miniature/metrics.json").read_text())
    page = (ROOT / "reports/miniature/README.md").read_text().splitlines()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page if "-FPN" in line]
    reported = {(cells[0], cells[1]): cells for cells in lines if len(cells) == 9}
    wanted = set()
    for backbone, found in metrics.items():
        for direction, key in DIRECTIONS.items():
            name, one = f"{backbone[0]}-{backbone[1:]}-FPN", found[key]
            with_trainings, paper = reported[name, direction][6], reported[name, direction][8]
            wanted.add(
                f"| {name} | {direction} "
                f"| {one['novel_AP_baseline']:.2f} | {one['novel_AP_opmask']:.2f} "
                f"| **{signed(one['gain'], 2)}** | {with_trainings} | {paper} |"
            )
    rows = {line for line in README.splitlines() if "-FPN |" in line}
    assert rows == wanted and len(rows) == 4


def test_what_the_readme_says_of_the_control_is_in_the_report():
    page = (ROOT / "reports/miniature/README.md").read_text()
    (said,) = re.findall(r"non-voc → voc is not decided \((.+?)\)", " ".join(README.split()))
    gain, interval = said.split(", ")
    wanted = f"non-voc → voc: the prior, at equal depth, gives {gain} AP ({interval}, not decided)"
    assert wanted in page
    assert f"{re.search(r'in small: ([0-9]+) trainings', README)[1]} trainings, seeds" in page


def test_what_the_readme_says_of_photographs_is_in_the_report():
    table = pd.read_csv(ROOT / "reports/coco_small/tables/contrasts.csv")
    rows = table[table["metric"].eq("IoU") & table["name"].str.startswith("gain lite0")]
    gains = rows.set_index("name")["difference"]
    text = " ".join(README.split())
    assert f"(voc → non-voc, {signed(gains['gain lite0 voc'], 1)} points;" in text
    assert f"in the other nothing is decided ({signed(gains['gain lite0 nonvoc'], 1)})" in text
    masks = pd.read_csv(ROOT / "reports/coco_small/tables/oracle.csv").query("classes == 'novel'")
    both = masks[masks["method"].isin(["maskrcnn", "opmask"])]
    above = both[["above_floor", "by_class_above"]].stack()
    assert f"by {above.min():.1f} to {above.max():.1f} points of IoU" in text
    (said,) = re.findall(r"decided by five trainings each \((.+?)\)", text)
    gained = re.findall(r"([+−]\d\.\d\d), ([+−]\d\.\d\d to [+−]\d\.\d\d)", said)
    page = (ROOT / "reports/README.md").read_text()
    rows = zip(("non-voc → voc", "voc → non-voc"), gained, strict=True)
    for direction, (gain, interval) in rows:
        assert re.search(rf"lite0-FPN +\| {direction} .*{re.escape(f'{gain} ({interval})')}", page)


def test_every_suite_and_scale_is_named_where_people_choose():
    suites = list(yaml.safe_load((ROOT / "paper.yaml").read_text())["suites"])
    scales = sorted(path.stem for path in (ROOT / "scales").glob("*.yaml"))
    remarks = dict(
        re.findall(r"^(suite|scale): \w+ # (.+)", (ROOT / "params.yaml").read_text(), re.M)
    )
    assert re.split(", | or ", remarks["suite"]) == suites
    assert sorted(re.split(", | or ", remarks["scale"])) == scales
    running = (ROOT / "docs/running.md").read_text()
    assert [name for name in suites if f"`{name}`" not in running] == []
    assert [name for name in scales if f"`{name}`" not in README] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    for link in (a or b for a, b in links):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), link
        if anchor:
            titles = re.findall(r"(?m)^#+ (.*)$", path.read_text())
            slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in slugs, link


def test_the_modules_that_documents_name_exist():
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"python -m\s+((?:opmask|study|pipeline|benchmarks)[\w.]*\w)", text))
    files = set(re.findall(r"`((?:opmask|study|pipeline|tests|benchmarks)/[\w/]+\.py)", text))
    assert len(named) > 5 and len(files) > 5
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []
    assert [file for file in sorted(files) if not (ROOT / file).exists()] == []


def test_one_command_lints_everywhere():
    """CI, the hosted workflow and pre-commit cannot ask for different things."""
    run = (ROOT / ".ci/run").read_text()
    assert "uv run .ci/lint" in run and "uv run pytest" in run
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for repo in hooks for hook in repo["hooks"]] == ["uv run .ci/lint"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
