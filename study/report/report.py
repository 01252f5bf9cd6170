"""The report of a scale, written from numbers: what reproduced and how certain, then how it was
made. A result that did not reproduce is a sentence like any other.

To add a section, write a function `Report -> str` and name it in `SECTIONS`; an empty string
leaves the section out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from study import format as markdown
from study.analysis.comparison import comparisons
from study.analysis.contrasts import of_further
from study.labels import DIRECTIONS
from study.report import ambiguity_page, ledger, sentences
from study.report.captions import PICTURES, SHOWN, caption
from study.report.data_section import data_section
from study.report.facts import UNKNOWN, facts, seconds, time_text
from study.report.overview import OWN_SCALE, SCALES
from study.tables.table1 import table1_markdown

# By file below the scale's folder: what it holds. Those of stages that are not run are left out.
_PAGES = {
    "index.html": "everything on one page, with an explorer of the classes; open it in a browser",
    "claims.md": "every checkable sentence of the paper with its verdict",
    "tables/table1.md": "Table 1: OPMask and its baseline on novel classes",
    "tables/table2.md": "Table 2: class activation maps used as masks",
    "tables/table3.md": "Table 3: schedules, box AP beside mask AP",
    "tables/contrasts.md": "gradient ablation (section 4.4), the control without prior, backbones",
    "tables/regression.md": "class overlap and mask AP (Figure 3), with the tests of a difference",
    "tables/ambiguity.md": "OPMask's gain in ambiguous and in clean regions",
    "tables/schedule_search.md": "the schedule search (section 4.5)",
}
# Of a data set without the paper's classes.
_OWN_PAGES = {
    "tables/contrasts.md": "every comparison of two runs with its intervals",
    "tables/per_class.csv": "every class of every run",
}
_RUN_KEYS = ["run", "seed"]


@dataclass(frozen=True)
class Report:
    """What the sections are written from.

    table1: of `tables.table1`. provenance: of `results.read_provenance`. manifest, splits: the
    stages' JSON, empty if absent. credits: of the embedded data's drawings, or empty.
    deepened: backbones whose warm start begins with another's weights. claims: the ledger, None
    if there is none. files: paths that exist below the scale's folder, or will. figures: the data
    beside the figures, by name. summary: of `results.summarise`, all runs. contrasts: of
    `contrasts.contrast_table`, ambiguity: of `ambiguity_effect.effect_table`; None if there is
    none.
    """

    scale: str
    schedule: str
    table1: pd.DataFrame
    provenance: Mapping[str, Sequence[Mapping[str, Any]]]
    manifest: Mapping[str, Any]
    splits: Mapping[str, Any]
    credits: str = ""
    deepened: Mapping[str, str] = field(default_factory=dict)
    claims: pd.DataFrame | None = None
    files: Collection[str] = ()
    figures: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    summary: pd.DataFrame | None = None
    contrasts: pd.DataFrame | None = None
    ambiguity: pd.DataFrame | None = None

    @property
    def has_paper_classes(self) -> bool:
        """Whether the paper's splits, and so its tables, apply to the data set."""
        return not self.splits or "voc" in self.splits


def render(report: Report) -> str:
    """The Markdown of `reports/<scale>/README.md`."""
    parts = [f"# Results at scale `{report.scale}`", *(section(report) for section in SECTIONS)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _findings(report: Report) -> str:
    about = f"Scale: {SCALES.get(report.scale, OWN_SCALE)}. Schedule: {report.schedule}."
    if not report.has_paper_classes:
        return (
            "**This data set does not have COCO's 80 classes: the paper's tables, figures and "
            f"claims do not apply to it, and the files about them are empty.**\n\n{about}"
        )
    found = comparisons(report.table1)
    lines = [f"- {sentences.gain(one)}" for one in found]
    return f"**{sentences.headline(found, report.scale)}**\n\n{about}\n\n" + "\n".join(lines)


def _further(report: Report) -> str:
    """OPMask against its baseline on splits and with backbones that the paper does not have."""
    if report.contrasts is None:
        return ""
    table = of_further(report.contrasts)
    if report.has_paper_classes:  # the findings have told the paper's splits
        table = table[~table["a"].str.endswith(tuple(f"-{split}" for split in DIRECTIONS))]
    found = sentences.further(table)
    if not found:
        return ""
    lines = "\n".join(f"- {markdown.escape(sentence)}" for sentence in found)
    return f"Mask AP of splits and backbones that are not the paper's:\n\n{lines}"


def _control(report: Report) -> str:
    """How much of the gain is the prior's and how much the deeper mask head's."""
    found = [] if report.contrasts is None else sentences.control(report.contrasts)
    if not found:
        return ""
    lines = "\n".join(f"- {markdown.escape(sentence)}" for sentence in found)
    return (
        "What of the gain is the prior's: against the control, a baseline with a mask head as deep "
        f"as OPMask's, mask AP of novel classes:\n\n{lines}"
    )


def _ambiguity(report: Report) -> str:
    """Whether the gain lies where the paper says it comes from."""
    if report.ambiguity is None or not report.has_paper_classes:
        return ""
    lines = "\n".join(f"- {sentence}" for sentence in ambiguity_page.sentences(report.ambiguity))
    return (
        "The paper's explanation, which it does not measure: the prior tells apart the objects of "
        f"ambiguous regions. [Mask IoU there and elsewhere](tables/ambiguity.md):\n\n{lines}"
    )


def _claims(report: Report) -> str:
    """How many claims came out how."""
    counts = ledger.counts(report.claims)
    if not counts or not report.has_paper_classes:
        return ""
    words = "; ".join(f"{verdict.capitalize()}: {count}" for verdict, count in counts.items())
    text = f"**{sum(counts.values())} claims of the paper. {words}.**"
    return text + (" One by one: [claims.md](claims.md)." if "claims.md" in report.files else "")


def _pages(report: Report) -> str:
    """Links to all that lies beside the page."""
    pages = _PAGES if report.has_paper_classes else _OWN_PAGES
    lines = [f"- [{path}]({path}): {what}" for path, what in pages.items() if path in report.files]
    return "\n".join(["Everything else, by page:", "", *lines]) if lines else ""


def _figures(report: Report) -> str:
    """Every figure with its caption; the pictures of photographs stay out of the reports."""
    if not report.has_paper_classes:
        return ""
    parts, photographs = [], []
    for name, (title, shown) in SHOWN.items():
        path = f"figures/{name}.png"
        if path in report.files:
            words = markdown.escape(f"{shown} {caption(name, report.figures.get(name))}").strip()
            parts.append(f"### {title}\n\n![{title}]({path})\n\n{words}")
        elif name in PICTURES and name in report.figures:
            photographs.append(title.partition(":")[0])
    if photographs:
        parts.append(
            f"{', '.join(photographs)} show photographs and are not part of the report; the "
            f"pipeline leaves them in `runs/{report.scale}/figures/`."
        )
    return "\n\n".join(["## Figures", *parts]) if parts else ""


def _runs(report: Report) -> str:
    """A line a run: what it reached and what it took."""
    rows = [_run_line(entry, report.summary) for entry in report.provenance.get("train", [])]
    rows = [row for row in rows if row["Run"]]
    return f"Each run, AP in percent:\n\n{markdown.table(pd.DataFrame(rows))}" if rows else ""


def _run_line(entry: Mapping[str, Any], summary: pd.DataFrame | None) -> dict[str, str]:
    run, seed = str(entry.get("run", "")), entry.get("seed", 0)
    row = {"Run": f"{run}, seed {seed}" if run else ""}
    wanted = {
        "Mask AP, novel": ("novel", "segm"),
        "Mask AP, supervised": ("supervised", "segm"),
        "Box AP, novel": ("novel", "bbox"),
        "Box AP, supervised": ("supervised", "bbox"),
    }
    for label, (supervision, task) in wanted.items():
        row[label] = markdown.number(_ap(summary, (run, seed, supervision, task)), 2)
    memory = entry.get("peak_memory_gib")
    return row | {
        "Iterations": str(entry.get("iterations", UNKNOWN)),
        "Time": time_text(entry),
        "Peak memory": f"{memory:.1f} GiB" if memory else UNKNOWN,
    }


def _ap(summary: pd.DataFrame | None, key: Sequence) -> float:
    if summary is None:
        return float("nan")
    rows = summary.set_index([*_RUN_KEYS, "supervision", "task"])["AP"].sort_index()
    return rows.get(tuple(key), float("nan"))


def _table1(report: Report) -> str:
    if not report.has_paper_classes:
        return ""
    return (
        "## Table 1\n\n" + table1_markdown(report.table1, report.scale, lead=False) + "\n\n"
        "As files: [table1.csv](tables/table1.csv) (tidy), [table1.md](tables/table1.md), and "
        "every class of every run in [per_class.csv](tables/per_class.csv)."
    )


def _made_with(report: Report) -> str:
    train = report.provenance["train"]
    if not train:
        return "## How it was made\n\nNo training was recorded at this scale."
    found = facts(train)
    frame = pd.DataFrame({"What": found.keys(), "Value": found.values()})
    parts = [markdown.table(frame, left=2), _initial_weights(report), _runs(report), _times(report)]
    return "\n\n".join(["## How it was made", *filter(None, parts)])


def _initial_weights(report: Report) -> str:
    if not report.provenance.get("pretrain"):
        return ""
    text = (
        "Initial weights: not ImageNet's, but one warm start a backbone, shared by all methods and "
        "learned here from the boxes and classes of the training images, no masks."
    )
    for deep, shallow in report.deepened.items():
        text += (
            f" {deep} starts as {shallow} with further blocks that change nothing at first: "
            "compare methods at this scale, not backbones."
        )
    return text


def _times(report: Report) -> str:
    """Wall time a stage: how many parts it has, their longest, and their sum."""
    rows = []
    for stage, entries in report.provenance.items():
        times = [value for entry in entries if (value := seconds(entry)) is not None]
        if times:
            longest, total = (markdown.duration(f(times)) for f in (max, sum))
            rows.append({"Stage": stage, "Parts": len(times), "Longest": longest, "Sum": total})
    return "Wall time:\n\n" + markdown.table(pd.DataFrame(rows)) if rows else ""


def _data(report: Report) -> str:
    return data_section(report.manifest, report.splits, report.credits)


def _regenerate(report: Report) -> str:
    # the folder's own path is the user's business, and reports are tracked by git
    root = " -S data_root=/path/to/data" if report.manifest.get("kind") == "coco" else ""
    return (
        "## Regenerate\n\n"
        f"    pip install uv && uv run dvc exp run -S scale={report.scale} "
        f"-S schedule={report.schedule}{root}\n\n"
        "This page and all files beside it are written by the pipeline; edit the code, not them."
    )


SECTIONS = (
    *(_findings, _further, _control, _ambiguity, _claims, _pages, _table1, _figures),
    *(_made_with, _data, _regenerate),
)
