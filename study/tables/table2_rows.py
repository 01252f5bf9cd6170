"""Which runs are rows of Table 2: stage `cam` measures those, without the rest of the table."""

from study import paper
from study.labels import BASELINE, MODELS, OURS
from study.spec.run import Run

METHODS = {name: MODELS[name] for name in ("fasterrcnn", BASELINE, OURS)}
BACKBONE = "R50"


def is_row(run: Run, schedule: str) -> bool:
    """Whether `run` is a row of the table, `schedule` being the global one."""
    published = paper.load("table2")[["method", "supervised"]].itertuples(index=False, name=None)
    row = (METHODS.get(run.method), run.supervised)
    return run.backbone == BACKBONE and run.schedule == schedule and row in set(published)
