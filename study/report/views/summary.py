"""What a report leads with: the question, what was run, the answer, and how far it carries."""

from collections import Counter
from typing import Any

from study.analysis.comparison import Comparison, comparisons
from study.analysis.contrasts import of_further
from study.claims.rules import HOLDS
from study.labels import DIRECTIONS
from study.report import sentences
from study.report.blocks import Block, Bullets
from study.report.inputs import Inputs
from study.report.render import say
from study.report.views import claims, floors, seeds, table1
from study.report.views.rows import caveat_items
from study.report.words import WORDS


def first_screen(inputs: Inputs) -> dict[str, Any]:
    """The question; what was run; the answer in one sentence, `lead`, and in numbers, with what the
    prior itself has of it and which methods are below a trivial floor; caveats."""
    words, table = WORDS["summary"], inputs.tables.get("table1")
    papers = inputs.has_paper_classes and table is not None
    found = _comparisons(inputs) if papers else []
    compared = [one.seeds for one in found]
    trainings = Counter(one.run.name for one in inputs.trained)
    further, under = _further(inputs), _below_floor(inputs)
    lead = sentences.headline(found, inputs.scale) if papers else words["no_table1"]
    return {
        "question": words["question"],
        "ran": about(inputs),
        "lead": lead if inputs.has_paper_classes else words["own_data"],
        "answer": [
            *([table1.gains(table, found)] if any(compared) else []),
            *_control(inputs),
            *_holds(inputs),
            *([words["floors"], Bullets(under)] if under else []),
            *([words["further"], Bullets(further)] if further else []),
        ],
        "caveats": Bullets(
            [
                *_noise(inputs),
                *_frozen_boxes(inputs),
                *_mask_threshold(inputs),
                *caveat_items(inputs.scale, [*compared, *trainings.values()]),
            ]
        ),
    }


def headline(inputs: Inputs) -> list[str]:
    """The gains, a line each, for the end of the pipeline."""
    found = _comparisons(inputs) if inputs.has_paper_classes else []
    gains = [*map(sentences.gain, found), *_further(inputs)]
    return ["Gain of OPMask over its baseline in mask AP:", *(f"  {one}" for one in gains)]


def about(inputs: Inputs) -> str:
    """Which scale this is, and how many trainings were made."""
    numbers = sorted({one.run.seed for one in inputs.trained})
    return say("about", scale_in_words(inputs.scale), inputs.schedule, len(inputs.trained), numbers)


def scale_in_words(scale: str) -> str:
    """What kind of data it has."""
    return str(WORDS["scales"].get(scale, WORDS["scales"]["own"]))


def _further(inputs: Inputs) -> list[str]:
    """Gains on splits and with backbones that are not the paper's."""
    if "contrasts" not in inputs.tables:
        return []
    other = of_further(inputs.tables["contrasts"])
    if inputs.has_paper_classes:  # the gains have told the paper's splits
        other = other[~other["a"].str.endswith(tuple(f"-{split}" for split in DIRECTIONS))]
    return sentences.further(other)


def _comparisons(inputs: Inputs) -> list[Comparison]:
    return comparisons(inputs.tables["table1"], list(inputs.experiments.values()))


def _control(inputs: Inputs) -> list[Block]:
    """What of the gain is the prior's."""
    table = inputs.tables.get("contrasts")
    found = [] if table is None else sentences.control(table, inputs.repeated)
    words = WORDS["summary"]
    return [words["control"], Bullets(found)] if found else [words["control_not_run"]]


def _holds(inputs: Inputs) -> list[Block]:
    """What of the paper's claims our runs confirm, of so many tested at once."""
    if inputs.claims is None or not inputs.has_paper_classes:
        return []
    ours = inputs.claims[claims.of_our_runs(inputs.claims)]
    found = ours.loc[ours["verdict_corrected"] == HOLDS, "reading"].tolist()
    words = WORDS["summary"]
    return [words["holds"], Bullets(found)] if found else [words["nothing_holds"]]


def _below_floor(inputs: Inputs) -> list[str]:
    """Which methods are no better than a shape that looks at no picture."""
    return floors.below(inputs.tables["oracle"]) if "oracle" in inputs.tables else []


def _frozen_boxes(inputs: Inputs) -> list[str]:
    """That masks taught the mask head alone, where it is so."""
    found = {entry.get("architecture") for entry in inputs.provenance.get("evaluate", [])}
    return [WORDS["caveats"]["frozen_boxes"]] if "FrozenBoxesRCNN" in found else []


def _mask_threshold(inputs: Inputs) -> list[str]:
    """Where masks begin, if that is not where the paper's do."""
    found = {entry.get("mask_threshold", 0.5) for entry in inputs.provenance.get("evaluate", [])}
    if found <= {0.5}:
        return []
    text = " or ".join(f"{value:g}" for value in sorted(found))
    return [WORDS["caveats"]["mask_threshold"].format(thresholds=text)]


def _noise(inputs: Inputs) -> list[str]:
    """What repeated trainings said of it."""
    page = "../experiments/{}/README.md"
    return [
        say("repeated", name, page.format(name), seeds.ahead(rows), seeds.spread(rows), DIRECTIONS)
        for name, rows in inputs.experiments.items()
    ]
