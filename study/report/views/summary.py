"""What reproduced and how certain it is: the findings that a report leads with."""

import pandas as pd

from study.analysis.comparison import comparisons
from study.analysis.contrasts import of_further
from study.labels import DIRECTIONS
from study.report import sentences
from study.report.blocks import Block, Bullets
from study.report.inputs import Inputs
from study.report.views import ambiguity
from study.report.words import WORDS


def lead(inputs: Inputs) -> str:
    """The result in one sentence."""
    if not inputs.has_paper_classes:
        return str(WORDS["summary"]["own_data"])
    return sentences.headline(comparisons(inputs.tables["table1"]), inputs.scale)


def about(inputs: Inputs) -> str:
    """Which scale this is."""
    return f"Scale: {scale_in_words(inputs.scale)}. Schedule: {inputs.schedule}."


def scale_in_words(scale: str) -> str:
    """What kind of data it has."""
    return str(WORDS["scales"].get(scale, WORDS["scales"]["own"]))


def findings(inputs: Inputs) -> list[Block]:
    """Each comparison, what of a gain is the prior's, and whether it lies where the paper says."""
    found: list[Block] = []
    if inputs.has_paper_classes:
        found.append(Bullets([sentences.gain(one) for one in comparisons(inputs.tables["table1"])]))
    if "contrasts" in inputs.tables:
        found += _contrasts(inputs.tables["contrasts"], inputs.has_paper_classes)
    if "ambiguity" in inputs.tables and inputs.has_paper_classes:
        found += [
            WORDS["summary"]["ambiguity"],
            Bullets(ambiguity.sentences(inputs.tables["ambiguity"])),
        ]
    return found


def _contrasts(contrasts: pd.DataFrame, has_paper_classes: bool) -> list[Block]:
    other = of_further(contrasts)
    if has_paper_classes:  # the findings have told the paper's splits
        other = other[~other["a"].str.endswith(tuple(f"-{split}" for split in DIRECTIONS))]
    parts = {"further": sentences.further(other), "control": sentences.control(contrasts)}
    found: list[Block] = []
    for name, items in parts.items():
        found += [WORDS["summary"][name], Bullets(items)] if items else []
    return found
