"""The paper's published numbers, typed in once, to stand beside ours.

Biertimpel et al., "Prior to Segment: Foreground Cues for Novel Objects in Partially Supervised
Instance Segmentation" (WACV 2021). One csv a table; AP in percent.

`table1.csv`: backbone (R50 | R101), method (the paper's row label without its reference number),
supervised (the classes with masks in training; the row is tested on the other ones), and mask AP,
AP50, AP75, APs, APm, APl of those novel classes.

`table2.csv`: method (fasterrcnn | maskrcnn | opmask, its class activation map used as the mask),
supervised, classes (all | voc | nonvoc, those evaluated), mask AP and AP50.

`table3.csv`: backbone, schedule, supervised, and OPMask's AP_box (classes not said) and novel AP.

`figure3.csv`, `figure6.csv`: what the text says of these figures; their other points are not given.

`ablation.csv`: the gain from mask gradients, novel AP of run a minus that of run b.
"""

from importlib.resources import files

import pandas as pd


def load(table: str) -> pd.DataFrame:
    """The paper's table `table`, e.g. "table1", one row a result, AP in percent.

    Raises FileNotFoundError if no such table was typed in.
    """
    with files(__package__).joinpath(f"{table}.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


def figure3(model: str, quantity: str, category: str = "") -> float:
    """What the text says of Figure 3: p of a model's regression, or AP of one of its classes; NaN
    if it says nothing."""
    table = load("figure3").fillna({"category": ""}).set_index(["model", "quantity", "category"])
    return float(table["value"].get((model, quantity, category), float("nan")))
