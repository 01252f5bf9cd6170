"""The page of the committed results as a browser lays it out: in print, and on a phone."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.report.inputs import Inputs, TrainedRun, read_all, read_csv
from study.report.pages import html_page
from study.report.views import seeds
from study.spec.run import Run

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "reports/miniature"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MEASURE = """
<iframe id="page" src="index.html" style="width: 390px; height: 900px; border: 0"></iframe>
<pre id="found"></pre>
<script>
onload = () => {
  const page = document.getElementById("page").contentDocument;
  const outside = [...page.querySelectorAll("body *")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width && box.right > 390.5 && !one.closest(".scroll");
  });
  const scroll = [...page.querySelectorAll(".scroll")];
  const wide = scroll.filter((one) => one.scrollWidth > one.clientWidth);
  const cut = wide.filter((one) => getComputedStyle(one).overflowX !== "auto");
  document.getElementById("found").textContent = [
    page.documentElement.scrollWidth, wide.length, cut.length, outside.length,
    ...outside.slice(0, 5).map((one) => `${one.tagName}.${one.className}`)].join(" ");
};
</script>
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="needs Chromium")]


def trained(name: str) -> TrainedRun:
    curve = pd.DataFrame({"step": range(1, 301), "value": np.linspace(4, 1, 300)})
    provenance = dict(iterations=300, wall_s=12, shared_iterations=250, peak_memory_gib=0.6, seed=0)
    losses = {"total_loss": curve, "loss_mask": curve}
    return TrainedRun(Run.from_name(name, "130k"), provenance, losses)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page as `index.html`: everything that a full report has."""
    tables = read_all(REPORT / "tables")
    names = tables["per_class"]["run"].unique()
    inputs = Inputs(
        "miniature",
        "130k",
        tables=tables,
        figure_data=read_all(REPORT / "figures"),
        pictures={path.stem: path for path in (REPORT / "figures").glob("*.png")},
        claims=read_csv(REPORT / "claims.csv"),
        trained=[trained(name) for name in names],
        experiments={"three_seeds": seeds.gains(tables["per_class"], "miniature")},
        command=f"uv run dvc exp run -S 'runs=[{','.join(names)}]'",
    )
    found = tmp_path_factory.mktemp("layout")
    (found / "index.html").write_text(html_page(inputs))
    (found / "phone.html").write_text(f"<!DOCTYPE html>{MEASURE}")
    return found


def browse(folder: Path, page: str, *options: str) -> str:
    profile = f"--user-data-dir={folder / 'profile'}"
    alone = ["--headless", "--no-sandbox", "--hide-scrollbars", "--allow-file-access-from-files"]
    command = [BROWSER, *alone, profile, *options, (folder / page).as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_it_prints_on_fifteen_pages(folder):
    browse(folder, "index.html", f"--print-to-pdf={folder / 'page.pdf'}")
    pages = re.findall(rb"/Type /Page\b(?!s)", (folder / "page.pdf").read_bytes())
    assert 5 <= len(pages) <= 15


def test_on_a_phone_nothing_is_cut_off(folder):
    dom = browse(folder, "phone.html", "--virtual-time-budget=5000", "--dump-dom")
    found = re.search(r"<pre id=\"found\">(.*?)</pre>", dom, re.S).group(1)
    width, wide, cut, outside, *names = found.split()
    assert int(width) <= 390 and int(wide) > 5
    assert (cut, outside) == ("0", "0"), names
