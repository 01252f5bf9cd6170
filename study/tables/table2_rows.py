"""Which runs are rows of Table 2: stage `cam` measures those, without the rest of the table."""

from study import paper
from study.labels import BASELINE, MODELS, OURS
from study.spec.paths import PER_CLASS
from study.spec.run import Run

METHODS = {name: MODELS[name] for name in ("fasterrcnn", BASELINE, OURS)}
BACKBONE = "R50"
# Of a run, what stage `cam` leaves: AP of its maps; of maps made anew in the refined box; of
# ellipses.
PER_CLASS_OF = (PER_CLASS, "refined.csv", "ellipse.csv")


def is_row(run: Run, schedule: str) -> bool:
    """Whether `run` is a row of the table, `schedule` being the global one."""
    published = paper.load("table2")[["method", "supervised"]].itertuples(index=False, name=None)
    row = (METHODS.get(run.method), run.supervised)
    return run.backbone == BACKBONE and run.schedule == schedule and row in set(published)
