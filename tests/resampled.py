"""AP of runs straight from their matches, on some classes: what tables of comparisons must show."""

import numpy as np

from opmask.evaluation.coco_ap import Matches
from opmask.evaluation.weighted_ap import weighted_metrics
from study.analysis.estimate import Estimate
from study.analysis.resampling import Resampled, resample


def weighted_ap(matches: Matches, weights, ids=None) -> np.ndarray:
    """AP of each class, (B, classes)."""
    return weighted_metrics(matches, weights, ids)[0]


def ap(runs: list[Matches], ids, *, resamples: int, seed: int, metric: str = "AP") -> Resampled:
    """Of the runs of one method, as if each had a seed of its own."""
    return resample(dict(enumerate(runs)), resamples=resamples, seed=seed)[metric].of(ids)


def interval(runs: list[Matches], ids, **bootstrap) -> Estimate:
    return ap(runs, ids, **bootstrap).estimate()


def difference(a: list[Matches], b: list[Matches], ids, **bootstrap) -> Estimate:
    """Of method a minus method b."""
    return (ap(a, ids, **bootstrap) - ap(b, ids, **bootstrap)).estimate()
