"""The ledger as a page for people."""

import math
from collections.abc import Sequence

import pandas as pd

from study import format as markdown
from study.analysis.estimate import MIN_SEEDS, Estimate
from study.claims.findings import findings
from study.claims.ledger import FOR, Graded
from study.claims.sources import KINDS
from study.claims.text import value_text
from study.claims.verdict import UNDECIDED, VERDICTS
from study.labels import NOT_RUN


def page(graded: Sequence[Graded], scale: str) -> str:
    """`reports/<scale>/claims.md`."""
    parts = [
        "# The paper's claims, graded",
        _lead(graded, scale),
        markdown.table(counts(graded)),
        _how(scale),
        markdown.table(overview(graded), left=3),
        "## How verdicts come about",
        _RULES,
        "## Each claim",
        *(details(one) for one in graded),
        "## What we found wrong or unclear in the paper",
        "Facts about the paper's own numbers, computed from them; none depends on our runs.",
        *_findings(),
    ]
    return "\n\n".join(parts) + "\n"


def counts(graded: Sequence[Graded]) -> pd.DataFrame:
    """How many claims came out how, by what they are tested on."""
    verdicts = pd.Series([one.verdict for one in graded])
    kinds = pd.Series([one.claim.evidence.kind for one in graded])
    table = pd.crosstab(kinds, verdicts).reindex(index=KINDS, columns=VERDICTS, fill_value=0)
    table["all"] = table.sum(axis=1)
    table.loc["all"] = table.sum()
    return table.rename_axis(index="Tested on", columns=None).reset_index()


def _lead(graded: Sequence[Graded], scale: str) -> str:
    count = pd.Series([one.verdict for one in graded]).value_counts()
    words = "; ".join(f"{verdict}: {count[verdict]}" for verdict in VERDICTS if verdict in count)
    return f"**{len(graded)} claims at scale `{scale}`. {words.capitalize()}.**"


def _how(scale: str) -> str:
    text = (
        "Each verdict is computed from the tables of this folder by a rule written down below. "
        "*Ours* is the cell that speaks least for the claim, with its 95 % interval; *for* says "
        "how many of the claim's cells decide for it."
    )
    if scale != "coco":
        text += (
            " Data, image size and schedule are not the paper's at this scale, so a verdict is "
            "about the direction of an effect, never its size: the paper's numbers are context."
        )
    return text


_RULES = (
    "- A *cell* is one number, with its 95 % interval: over validation images unless said "
    f"otherwise. Where there are {MIN_SEEDS} seeds or more, Student's 95 % interval over seeds "
    "counts as well, and a cell is decided only if both lie on the same side. With fewer seeds the "
    "noise between trainings is **not** covered.\n"
    "- A claim *holds* if every cell lies on the claimed side (an intersection-union test; it "
    "needs no correction). It *does not hold* if a cell lies on the other side after Holm's "
    "correction over the claim's cells. Else it is *not decided*.\n"
    "- “Significantly” and “considerably” are graded by direction: how much they mean is not said."
    "\n"
    "- Where the paper argues from p-values, its own criterion is graded literally, and the right "
    "test is a claim of its own beside it.\n"
    "- What an undecided claim *needs*: an interval's half-width falls with the square root of "
    "what it is over, so (half-width / distance to the threshold)² times as much decides it, if "
    "the estimate stays where it is.\n"
    "- Claims about systems that we cannot run are checked for arithmetic against the paper's own "
    "tables: *internally consistent*, no more.\n"
    "- No correction is made over the ledger as a whole."
)


def overview(graded: Sequence[Graded]) -> pd.DataFrame:
    """A line a claim."""
    rows = []
    for one in graded:
        cell, claim = one.deciding, one.claim
        rows.append(
            {
                "Claim": f"[{claim.id}](#{claim.id})",
                "Where": claim.section,
                "What is tested": claim.reading,
                "Paper": one.paper_text(),
                "Ours": _ours(cell, claim.evidence.unit) if cell else NOT_RUN,
                "For": f"{one.speaks().count(FOR)} of {len(one.cells)}",
                "Verdict": one.verdict,
            }
        )
    return pd.DataFrame(rows)


def _ours(cell: Estimate, unit: str) -> str:
    return value_text(cell.value, cell.low, cell.high, unit) if cell.ran else NOT_RUN


def details(one: Graded) -> str:
    """A claim's own section."""
    claim = one.claim
    lines = [
        f"### {claim.id}",
        f"> {claim.sentence}\n>\n> ({_place(claim.section)})",
        f"**{one.verdict}**. Tested: {claim.reading}",
        f"Rule: {claim.rule.text}. Test: {claim.evidence.test}. From `{claim.evidence.source}`, "
        f"in {claim.evidence.unit}. Paper: {one.paper_text()}.",
    ]
    if one.verdict == UNDECIDED:
        lines.append(f"Needs: {one.needs}.")
    lines.append(
        markdown.table(
            pd.DataFrame(
                [_cell_line(one, *pair) for pair in zip(one.cells, one.speaks(), strict=True)]
            )
        )
    )
    return "\n\n".join(lines)


def _place(section: str) -> str:
    return f"section {section}" if section[0].isdigit() else section


def _cell_line(one: Graded, cell: Estimate, speaks: str) -> dict[str, str]:
    seeds = str(cell.seeds) if cell.seeds else markdown.MISSING
    line = {"Cell": cell.name, "Ours": _ours(cell, one.claim.evidence.unit)}
    if any(c.seeds for c in one.cells):
        spread = f" ± {markdown.number(cell.sd, 2)}" if not math.isnan(cell.sd) else ""
        line["Seeds"] = seeds + spread
    if any(not math.isnan(c.p) for c in one.cells):
        line["p"] = markdown.number(cell.p, 4)
    if any(not math.isnan(c.paper) for c in one.cells):
        line["Paper"] = markdown.signed(cell.paper, 2)
    return line | {"Speaks": speaks}


def _findings() -> list[str]:
    return [
        f"### {heading}\n\n" + "\n".join(f"- {text}" for text in texts)
        for heading, texts in findings().items()
    ]
