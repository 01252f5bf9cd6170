"""The report page: well-formed, complete in itself, all text escaped, its numbers those of the
csv files; what was not run is named, and its section left out."""

import base64
import html
import io
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parameters import write_params
from PIL import Image

from opmask.errors import UserError
from pipeline import report as stage
from study.analysis import regression
from study.analysis.contrasts import CONTRASTS
from study.analysis.estimate import Estimate
from study.analysis.search import search_table
from study.report.blocks import Table, whiskers
from study.report.embedded import embed
from study.report.html import body_rows, inline
from study.report.inputs import Inputs, TrainedRun, read_csv, read_inputs
from study.report.markdown import markdown
from study.report.pages import CODE, html_page, readme
from study.report.views import claims, classes, made, seeds
from study.report.views.summary import first_screen
from study.spec.params import load_params
from study.spec.paths import Paths
from study.spec.results import METRICS, summarise
from study.spec.run import Run, parse_run
from study.tables.table1 import table1
from study.tables.table2 import read_cam, table2
from study.tables.table3 import table3

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml") | {"seeds": [0]}
EVIL = "</script><script>alert(1)</script>"
IMG = "<img src=x onerror=alert(1)>"
ALWAYS = ["summary", "left-out", "experience", "regenerate"]
SECTIONS = ["summary", "tables", "figures", "left-out", "claims", "contrasts", "classes", "made",
            "experience", "regenerate"]  # fmt: skip
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Elements, texts and tables of a page; fails where an element is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.scripts, self.grids = [], [], [], []
        self.text = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(attributes) == len(dict(attributes)), f"attribute twice in {tag}"
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag == "script":
            self.scripts.append("")
        if tag == "table":
            self.grids.append([])
        if tag == "tr" and self.grids:
            self.grids[-1].append([])
        if tag in ("td", "th"):
            span = [int(attributes.get(f"{kind}span", 1)) for kind in ("row", "col")]
            self.grids[-1][-1].append([tag, attributes, *span, ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):  # of SVG
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.grids[-1][-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self, part):
        """Texts of the table whose caption or first heading contains `part`, row by row."""
        grid = next(g for g in self.grids if any(part in cell[-1] for row in g for cell in row))
        return [[" ".join(cell[-1].split()) for cell in row] for row in grid]


def per_class(names=("cat", "kite", "NA"), seeds=(0,)):
    """Two methods, both directions; AP of class c, method m, seed s: 10 c + 5 m + s."""
    rows = []
    for supervised in ("voc", "nonvoc"):
        for m, method in enumerate(("maskrcnn", "opmask")):
            for seed in seeds:
                for task in ("segm", "bbox"):
                    for c, name in enumerate(names):
                        ap = 10 * c + 5 * m + seed
                        row = dict(run=f"{method}-R50-{supervised}", method=method, seed=seed)
                        row |= dict(backbone="R50", supervised=supervised, schedule="130k")
                        novel = (c == 0) == (supervised == "nonvoc")
                        row |= dict(category_id=c + 1, category=name, task=task, instances=7 + c)
                        row |= dict(supervision="novel" if novel else "supervised")
                        rows.append(row | dict.fromkeys(METRICS, float(ap)) | {"APl": np.nan})
    return pd.DataFrame(rows)


def gain(estimate, low, high):
    return Estimate("", estimate, low, high)


def contrast_rows(difference=1.5):
    rows = []
    for one in CONTRASTS:
        row = {k: getattr(one, k) for k in ("name", "section", "claim", "claimed", "a", "b")}
        row |= dict(classes=one.classes, tested=20, value_a=11.5, value_b=10, difference=difference)
        row |= dict(low=difference - 1, high=difference + 1, p=0.01, p_holm=np.nan, seeds=1)
        row |= dict(task="segm", metric="AP", claim=one.claim, seeds=3)
        rows.append(row | dict(class_low=0.1, class_high=2, sd=0.001, paper=one.paper))
    return pd.DataFrame(rows)


def claim_rows(sentence="It improves."):
    verdicts = [*claims.STYLES, "holds"]
    common = dict(sentence=sentence, section="4.3", reading="the *gain*", kind="our runs")
    common |= dict(paper="+9.4 to +13.0", cell="R-101", unit="AP", seeds=3, cells=4, cells_run=3)
    common |= dict(
        source="tables/contrasts.csv", test="paired bootstrap", cells_for=2, cells_against=1
    )
    common |= dict(
        rule="every interval above 0", needs="", noise="", second="", beside="", lacks=""
    )
    common |= dict(own_low=-0.4, own_high=2.9, p=0.01, p_holm=0.1)
    return pd.DataFrame(
        [
            common
            | dict(id=f"c{n}", verdict=v, verdict_corrected=v, value=1.25, low=-0.5, high=3.0)
            for n, v in enumerate(verdicts)
        ]
    )


def trained(cpu="EPYC"):
    curve = pd.DataFrame({"step": range(1, 301), "value": np.linspace(4, 1, 300)})
    provenance = dict(run="opmask-R50-voc", seed=0, iterations=300, wall_s=3600, precision="bf16")
    provenance |= dict(peak_memory_gib=2.5, hardware={"cpu": cpu, "cores": 2}, commit="0123abcd")
    run = Run("opmask-R50-voc", "opmask", "R50", "voc", "130k", 0)
    return TrainedRun(run, provenance, {"total_loss": curve, "lr": curve})


def full_inputs(tmp_path, name="kite", sentence="It improves.", cpu="EPYC"):
    """Inputs with every table, two figures and a run."""
    classes = per_class(("cat", name, "NA"))
    none = read_cam(tmp_path, [])
    settings = dict(resamples=2, seed=0)
    summary = summarise(classes)
    gains = {
        ("R50", "voc"): {"AP": gain(5, 3, 7), "AP50": gain(5, 2, 8)},
        ("R50", "nonvoc"): {"AP": gain(5, -1, 11)},
    }
    curve = pd.DataFrame(columns=["method", "backbone", "supervised", "schedule", "seed", "key",
                                  "iteration", "classes", "task", "metric", "value"])  # fmt: skip
    points = pd.DataFrame({"iou": np.linspace(0, 0.4, 6), "category": list("abcdef"), "seeds": 1})
    points = points.assign(maskrcnn=[5.0, 4, 6, 2, 3, 1], opmask=[5.0, 6, 6, 5, 7, 6])
    points["difference"] = points["opmask"] - points["maskrcnn"]
    for model in ("maskrcnn", "opmask"):
        points[f"{model}_supervised"] = points[f"{model}_novelty"] = np.nan
    tables = dict(per_class=classes, table1=table1(summary, gains), contrasts=contrast_rows())
    tables |= dict(table2=table2(none, tmp_path, **settings).fillna({"minus_method": ""}))
    tables |= dict(table3=table3(none, tmp_path, **settings))
    tables |= dict(regression=regression.regress(points, resamples=5))
    tables |= dict(schedule_search=search_table(tmp_path, curve, {}, 0.001, **settings))
    picked = pd.DataFrame({"image_id": [1, 2], "annotation_id": [3, 4], "seed": 0, "rule": "By U."})
    picture = tmp_path / "figure1.png"
    Image.new("RGB", (300, 200), "white").save(picture, dpi=(200, 200))
    return Inputs(
        "miniature",
        "130k",
        tables=tables,
        figure_data={"figure1": picked, "figure3": points, "figure5": picked},
        pictures={"figure1": picture, "figure3": picture},
        claims=claim_rows(sentence),
        trained=[trained(cpu)],
        experiments={"three_seeds": seeds.gains(per_class(seeds=(0, 1)), "miniature")},
        command="uv run dvc exp run",
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return html_page(full_inputs(tmp_path_factory.mktemp("page"), EVIL, IMG, f"<b>{EVIL}"))


@pytest.fixture(scope="module")
def page(full):
    return Page(full)


@pytest.fixture(scope="module")
def empty():
    return html_page(Inputs("miniature", "130k"))


def test_the_page_is_complete_in_itself(full, page):
    assert full.startswith("<!DOCTYPE html>")
    addresses = [a[k] for _, a in page.elements for k in ("src", "href", "action") if k in a]
    outside = {a for a in addresses if re.match(r"(?i)\s*(\w+:)?//", a)}
    assert outside == {CODE}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(", full)
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert max(ids.values()) == 1
    anchors = {a[1:] for a in addresses if a.startswith("#")}
    assert anchors <= set(ids) and anchors >= set(SECTIONS) - {"left-out"}
    beside = {a for a in addresses if not re.match(r"#|data:|https:", a)}
    assert beside == {
        "../experiments/three_seeds/README.md",
        "claims.md",
        "claims.csv",
        "README.md",
        "tables/per_class.csv",
    }


def test_a_reader_who_does_not_see_it_is_told(page):
    assert all(a["alt"].strip() for a in page.all("img")) and page.all("img")
    assert all(a.get("aria-label") for a in page.all("svg")) and page.all("svg")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert all("scope" in a for a in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"


def test_tables_are_rectangular(page):
    """With rows and columns that cells span counted, every row is as wide as the first."""
    for lines in page.grids:
        taken = Counter()
        widths = []
        for y, row in enumerate(lines):
            for _, _, down, right, _ in row:
                for below in range(down):
                    taken[y + below] += right
            widths.append(taken[y])
        assert len(set(widths)) <= 1, (widths, lines[0])
        assert all(y < len(lines) for y in taken)


def test_hostile_text_stays_text(full, page):
    assert len(page.scripts) == 2  # the data and the code
    assert "alert(1)" not in page.scripts[1]
    assert not any("onerror" in a for _, a in page.elements)
    assert all(a.get("src", "").startswith("data:image/png;base64,") for a in page.all("img"))
    text = " ".join(page.text)
    assert text.count(IMG) == 6 and f"<b>{EVIL}" in text
    assert EVIL not in full
    data = json.loads(page.scripts[0])
    assert data["categories"] == ["cat", EVIL, "NA"]


def test_every_section_is_there_and_none_that_is_empty(full, page, empty):
    assert [a["id"] for a in page.all("section")] == SECTIONS
    ours = (
        "Masks in true boxes (not in the paper), Other systems on the same base (not in the paper)"
    )
    missing = f"left out: Table 2, Table 3, {ours}, Figure 4, Figure 6"
    assert missing in " ".join(full.split())
    bare = Page(empty)
    assert [a["id"] for a in bare.all("section")] == ALWAYS
    text = " ".join(" ".join(bare.text).split())
    assert "Table 1 was not made." in text
    assert f"left out: Table 1, Table 2, Table 3, {ours}, Figure 1" in text
    linked = {a["href"][1:] for a in bare.all("a") if a["href"].startswith("#")}
    assert linked == {"summary", "experience", "regenerate"}
    assert not bare.all("img") and not bare.grids and len(bare.scripts) == 1


def test_question_answer_and_caveats_come_first(full):
    parts = [
        "Does that help?",
        "in 1 of 2 comparisons, by more than other pictures and other trainings would explain",
        "1 training, seed 0.",
        "Paper&#39;s gain",
        "What the prior itself contributes.",
        "the prior, at equal depth, gives +1.50 AP (+0.50 to +2.50); three more layers",
        "4 of 4 pairs of trainings",
        "One training each",
        "is a paired bootstrap over validation images",
        "context, not a target",
        "6 claims of the paper",
        'id="figure1"',
        'id="tables"',
        'id="figures"',
        'id="claims"',
        'id="classes"',
    ]
    text = " ".join(full.split())
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("thresholds", "said"), [((0.5, None), None), ((0.33, None), "0.33 or 0.5"), ((0.4,), "0.4")]
)
def test_a_mask_threshold_that_is_not_the_papers_is_a_caveat(thresholds, said, tmp_path):
    entries = [{} if one is None else {"mask_threshold": one} for one in thresholds]
    inputs = replace(full_inputs(tmp_path), provenance={"evaluate": entries})
    found = [one for one in first_screen(inputs)["caveats"].items if "pixel is in a mask" in one]
    assert len(found) == (said is not None)
    assert all(f"from a probability of {said} on" in one for one in found)


@pytest.mark.parametrize("architecture", [None, "FrozenFeaturesRCNN", "FrozenBoxesRCNN"])
def test_boxes_that_are_the_same_in_all_trainings_are_a_caveat(architecture, tmp_path):
    entries = [{}, {"architecture": architecture}]
    inputs = replace(full_inputs(tmp_path), provenance={"evaluate": entries})
    found = [one for one in first_screen(inputs)["caveats"].items if "Boxes are the same" in one]
    assert len(found) == (architecture == "FrozenBoxesRCNN")


def test_controls_of_fewer_trainings_are_a_caveat(tmp_path):
    inputs = full_inputs(tmp_path)
    several = [
        replace(one, run=replace(one.run, seed=seed)) for one in inputs.trained for seed in (0, 1)
    ]
    control = replace(several[0], run=Run.from_name("maskrcnn7-R50-voc", "130k"))

    def said(trained):
        caveats = first_screen(replace(inputs, trained=trained))["caveats"].items
        begin = [one.split("**")[1] for one in caveats]
        return [one for one in begin if "training" in one.lower() and "Noise" not in one]

    assert said([control]) == ["One training each"]
    assert said([*several, control]) == ["One to 2 trainings a row"]


def plain(text):
    """The words of HTML or Markdown alone."""
    text = re.sub(r"<svg.*?</svg>|<[^>]+>|\]\([^)]*\)", " ", text, flags=re.S)
    return re.sub(r"[\W_]+", " ", html.unescape(text))


def test_readme_says_what_the_page_says(tmp_path):
    inputs = full_inputs(tmp_path)
    page, text = html_page(inputs), readme(inputs)
    said, where = plain(page), first_screen(inputs)
    caveats, (table, *_) = where["caveats"].items, where["answer"]
    assert len(caveats) == 4
    assert all(plain(markdown(item)) in said and markdown(item) in text for item in caveats)
    for cell in table.frame.astype(str).to_numpy().ravel():
        assert plain(cell) in said and cell in text


def test_gains_are_drawn_on_one_axis_with_zero(page):
    lines = {a["y1"]: a for a in page.all("line") if a.get("class") == "span"}
    assert lines
    row = next(r for r in page.cells("Paper's gain") if "non-voc → voc" in r)
    assert row[:4] == ["R-50-FPN", "non-voc → voc", "0.00", "5.00"]
    assert row[4:7] == ["+5.00", "−1.00 to +11.00", "−1.00 to +11.00"]
    assert row[-2:] == ["1", "+10.1"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-50, 50).map(lambda x: round(x, 3))] * 3).map(sorted), min_size=1
    )
)
def test_whiskers_keep_order_and_zero(triples):
    frame = pd.DataFrame(triples, columns=["low", "value", "high"])
    for drawn, (low, value, high) in zip(whiskers(frame, "value"), triples, strict=True):
        assert 0 <= drawn.x(low) <= drawn.x(value) <= drawn.x(high) <= 100
        assert 0 < drawn.x(0) < 100
        assert (low > 0.5) <= (drawn.x(low) > drawn.x(0))


def test_an_interval_that_there_is_not():
    frame = pd.DataFrame({"value": [np.nan, 1.0], "low": [np.nan, 0.5], "high": [np.nan, 2.0]})
    first, second = whiskers(frame, "value")
    assert first == "–" and str(second) == "+0.50 to +2.00"
    nothing = whiskers(frame.iloc[:1], "value")
    assert nothing == ["–"]


def test_table1_shows_ours_the_papers_and_the_quoted(page):
    # the grids before: the summary's gains, the other direction
    texts = [[" ".join(c[-1].split()) for c in row] for row in page.grids[2]]
    assert texts[0] == ["Backbone", "Method", "Whose", *METRICS]
    ours = next(r for r in texts if r[:2] == ["R-50-FPN", "OPMask"])
    # voc → non-voc: classes 1 and 2 are novel: (15 + 25) / 2; the paper's 31.9
    assert ours[2:4] == ["ours", "20.0"] and ours[-1] == "–"
    after = texts[texts.index(ours) + 1 : texts.index(ours) + 3]
    assert [r[:2] for r in after] == [["paper", "31.9"], ["ours − paper", "−11.9"]]
    assert [
        "R-101-FPN",
        "CPMask",
        "quoted",
        "34.0",
        "53.7",
        "36.5",
        "18.5",
        "38.9",
        "47.4",
    ] in texts


def test_rows_that_go_on_share_their_heading():
    frame = pd.DataFrame([["a", "ours", 1], ["", "paper", 2], ["b", "ours", None]])
    rows = body_rows(Table(frame, "c", headers=1, left=2, kinds=["x", "y", "z"]))
    kinds, cells = zip(*rows, strict=True)
    assert [len(row) for row in cells] == [3, 2, 3]
    assert [row[0].rows for row in cells] == [2, 1, 1]
    assert cells[0][0].header and not cells[1][0].header
    assert cells[2][2].value == "–" and kinds == tuple("xyz")


def test_claims_by_verdict(page):
    verdicts = [a["data-verdict"] for a in page.all("tr") if "data-verdict" in a]
    assert verdicts == [*claims.STYLES, "holds"]
    buttons = [a["data-verdict"] for a in page.all("button")]
    assert buttons == ["", *claims.STYLES]
    entry = claims.entries(claim_rows())[0]
    assert entry.facts["ours"] == "+1.25 AP (−0.50 to +3.00), R-101, 3 seeds"
    assert entry.more["cells"] == "2 of 4 decide for it, 1 against; 1 not run"
    assert entry.more["rule"] == "every interval above 0" and "needs" not in entry.facts
    assert claims.counts(claim_rows())["holds"] == 2
    other = claim_rows().head(1).assign(verdict="maybe", value=np.nan, cell="", seeds=0, low=np.nan)
    other["own_low"] = np.nan
    assert claims.counts(other) == {"maybe": 1}
    (entry,) = claims.entries(other)
    assert (entry.style, entry.facts["ours"]) == ("other", "not run")


def test_a_number_of_the_papers_is_not_called_ours(tmp_path):
    theirs = claim_rows().assign(kind="the paper's own numbers", p_holm=np.nan)
    table = Page(html_page(Inputs("s", "1x", claims=theirs))).cells("Computed from")
    assert {row[-1] for row in table[1:]} == {"the paper's own numbers"}
    assert all("computed+1.25 AP (−0.50 to +3.00)" in row[1] for row in table[1:])
    ours = Page(html_page(Inputs("s", "1x", claims=claim_rows()))).cells("The paper says")
    assert ours[1][-1].startswith("+1.25 AP")
    assert set(claims.overview(theirs).frame["Ours"]) == {"–"}


def test_explorer_data_are_means_over_seeds():
    frame = per_class(seeds=(0, 1, 4))
    data = classes.explorer_data(frame)
    assert [run["seeds"] for run in data["runs"]] == [3] * 4
    assert len(data["results"]) == 8
    for run, task, rows in data["results"]:
        fields = data["runs"][run]
        for category, objects, novel, *values in rows:
            wanted = [
                row
                for row in frame.to_dict("records")
                if row["category"] == data["categories"][category]
                and row["task"] == task
                and all(row[k] == fields[k] for k in ("method", "supervised"))
            ]
            assert len(wanted) == 3
            assert values[0] == pytest.approx(sum(r["AP"] for r in wanted) / 3, abs=0.01)
            assert values[5] is None and objects == wanted[0]["instances"]
            assert novel == (wanted[0]["supervision"] == "novel")
    json.dumps(data, allow_nan=False)
    assert classes.explorer_data(None) == classes.explorer_data(frame.iloc[:0]) == {}


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("ab *`<>&\"'/x_[]():"), max_size=40))
def test_inline_text_lets_only_its_own_marks_through(text):
    found = str(inline(text))
    tags = set(re.findall(r"<[^>]*>", found))
    links = {tag for tag in tags if tag.startswith("<a")}
    assert all(re.fullmatch(r'<a href="[\w./#-]+">', tag) for tag in links)  # nowhere outside
    assert tags - links <= {
        f"<{end}{t}>" for end in ("", "/") for t in ("code", "strong", "em")
    } | {"</a>"}
    marks = r"[*`\[\]()]"
    plain = html.unescape(re.sub(r'<a href="([^"]*)">(.*?)</a>', r"\2\1", found))
    plain = re.sub(r"</?(code|strong|em)>", "", plain)
    assert re.sub(marks, "", plain) == re.sub(marks, "", text)


def test_inline_marks():
    assert inline("a **b** `c*d*` *e*") == ("a <strong>b</strong> <code>c*d*</code> <em>e</em>")
    assert inline("2 * 3 * 4") == "2 * 3 * 4"
    assert inline("95 % of") == "95\N{NO-BREAK SPACE}% of"


def test_a_large_picture_becomes_webp_of_as_many_pixels(tmp_path):
    y, x = np.mgrid[:500, :700]
    smooth = np.stack([x / 3, y / 2, 255 - x / 3], axis=-1)
    noisy = smooth + np.random.default_rng(0).normal(0, 4, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png", dpi=(200, 200))
    size = (tmp_path / "a.png").stat().st_size
    whole = embed(tmp_path / "a.png", 1.25, budget=size)
    small = embed(tmp_path / "a.png", 1.25, budget=size - 1)
    assert (whole.width, whole.height) == (small.width, small.height) == (420, 300)
    assert embed(tmp_path / "a.png", 2.5).width == 840
    png = base64.b64decode(whole.uri.removeprefix("data:image/png;base64,"))
    assert png == (tmp_path / "a.png").read_bytes()
    webp = base64.b64decode(small.uri.removeprefix("data:image/webp;base64,"))
    assert len(webp) < size / 4
    shown = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"), float)
    assert shown.shape == (500, 700, 3) and np.abs(shown - smooth).mean() < 4
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(UserError, match=r"bad\.png: cannot be read as a picture"):
        embed(tmp_path / "bad.png")


def test_gains_of_table1_by_metric(page):
    rows = page.cells("Gain in AP50")
    row = next(r for r in rows if r[:2] == ["R-50-FPN", "voc → non-voc"])
    assert row[2].replace("\xa0", " ") == "+5.00 (+2.00 to +8.00), paper +16.7"


def test_captions_say_rule_number_and_seeds(full):
    figure = re.search(r'<figure id="figure1">.*?</figure>', full, re.S).group()
    assert "By U. n = 2. Seed 0." in figure and 'width="288" height="192"' in figure
    third = re.search(r'<figure id="figure3">.*?</figure>', full, re.S).group()
    assert "n = 6 classes. Seeds: 1." in third and "The two slopes" in third
    assert "Figure 5 show photographs" in full and "runs/miniature/figures/" in full
    assert 'id="figure5"' not in full


def test_curves_are_thinned_and_share_their_axes():
    long, short = trained(), trained()
    short = TrainedRun(short.run, short.provenance, {"total_loss": long.losses["total_loss"][:150]})
    frame = made.runs([long, short], None).frame
    first, second = frame["Loss"]
    assert frame["Mask loss"].isna().all()  # there is none
    points = [tuple(map(float, p.split(","))) for p in first.points.split()]
    assert len(points) == 60 and points[0][0] < 2 and points[-1][0] > 0.98 * first.width
    assert points[0][1] == pytest.approx(0, abs=0.2)
    # the last five of 300 values from 4 to 1 have the mean 1.02, of a top of 3.98
    assert points[-1][1] == pytest.approx(first.height * (1 - 1.02 / 3.98), abs=0.1)
    assert str(first) == "1.02"
    half = [float(p.split(",")[0]) for p in second.points.split()]
    assert max(half) == pytest.approx(first.width / 2, abs=1)
    assert (frame["Time"][0], frame["Peak memory"][0]) == ("60 min", "2.5 GiB")


def test_a_time_says_what_it_leaves_out():
    whole = trained()
    part = TrainedRun(whole.run, whole.provenance | {"wall_s": 12, "shared_iterations": 702}, {})
    table = made.runs([whole, part], None)
    assert table.frame["Time"].tolist() == ["60 min", "12 s, from iteration 702"]
    assert "leaves out the beginning" in table.caption
    assert "leaves out the beginning" not in made.runs([whole], None).caption


def test_text_that_looks_like_a_missing_number_stays(tmp_path):
    (tmp_path / "a.csv").write_text("category,AP,minus\nNA,,\nnull,1.5,x\n")
    frame = read_csv(tmp_path / "a.csv")
    assert frame["category"].tolist() == ["NA", "null"] and frame["minus"].tolist() == ["", "x"]
    assert np.isnan(frame["AP"][0])
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(UserError, match=r"b\.csv: not a csv file"):
        read_csv(tmp_path / "b.csv")


def test_the_stage_reads_files_and_writes_the_same_page_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = PARAMS | {"runs": ["opmask-R50-voc", "maskrcnn-R50-voc"], "seeds": [0]}
    write_params(params)
    inputs = full_inputs(tmp_path)
    reports = Path("reports", params["scale"])
    for name, frame in inputs.tables.items():
        path = reports / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)
    inputs.claims.to_csv(reports / "claims.csv", index=False)
    losses = Path("runs", params["scale"], "train", "opmask-R50-voc-0", "losses")
    losses.mkdir(parents=True)
    curve = pd.DataFrame({"step": [1, 2, 3], "total_loss": [3.0, 2.0, 1.0]})
    curve.to_csv(losses / "total_loss.tsv", sep="\t", index=False)
    (losses.parent / "provenance.json").write_text(json.dumps(inputs.trained[0].provenance))
    stage.run([])
    text = (reports / "index.html").read_text()
    assert len(Page(text).scripts) == 2 and "opmask-R50-voc, seed 0" in text
    assert "maskrcnn-R50-voc, seed 0" not in text  # was not trained
    stage.run([])
    assert (reports / "index.html").read_text() == text
    wanted = [parse_run(name, 0, params) for name in params["runs"]]
    read = read_inputs(Paths.of(params), "130k", wanted)
    assert [one.run.key for one in read.trained] == ["opmask-R50-voc-0"]
    (losses / "loss_mask.tsv").write_text("step\tother\n1\t2\n")
    with pytest.raises(SystemExit):
        stage.run([])
