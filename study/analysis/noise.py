"""Noise between trainings, of comparisons that were trained several times.

One training each says nothing of it, and it is as large as many differences, so it is taken from
where it was measured: variances of differences of the same kind over seeds, pooled.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from study.analysis.estimate import Noise


def pooled(variances: Iterable[tuple[float, int]], origin: str) -> Noise:
    """Of (variance, degrees of freedom) each; unknown where there is none.

    The mean of the variances, weighted by degrees of freedom, as of groups of equal variance.
    """
    known = [(variance, df) for variance, df in variances if df > 0 and not np.isnan(variance)]
    if not known:
        return Noise()
    df = sum(df for _, df in known)
    return Noise(float(np.sqrt(sum(v * d for v, d in known) / df)), df, origin)


def of_rows(rows: pd.DataFrame, origin: str, once: Sequence[str] = ()) -> Noise:
    """Of rows of differences with the columns sd (over seeds) and seeds, those of several seeds.

    once: columns; rows that have the same there share trainings, and their degrees of freedom count
    once. (Of differences between n configurations at most n − 1 are independent; no two of these
    have the same subtrahend.)
    """
    rows = rows.assign(sd=pd.to_numeric(rows["sd"]), seeds=pd.to_numeric(rows["seeds"]))
    rows = rows[(rows["seeds"] > 1) & rows["sd"].notna()]
    groups = [group for _, group in rows.groupby(list(once))] if once else [rows]
    found = []
    for group in groups:
        sizes = group["seeds"].to_numpy(dtype=int) - 1
        variances = group["sd"].to_numpy() ** 2
        if once and len(group):
            found.append((float(np.average(variances, weights=sizes)), int(sizes.max())))
        else:
            found += list(zip(variances.tolist(), sizes.tolist(), strict=True))
    pairs = f"{len(rows)} {'pair' if len(rows) == 1 else 'pairs'} of trainings"
    return pooled(found, f"{pairs}, {origin}")


def of_values(values: Sequence[float], origin: str) -> Noise:
    """Of one number from each of several trainings."""
    known = [value for value in values if not np.isnan(value)]
    return pooled(
        [(float(np.var(known, ddof=1)), len(known) - 1)] if len(known) > 1 else [], origin
    )


def of_gains(gains: pd.DataFrame, origin: str) -> Noise:
    """Of OPMask's gain in novel mask AP; `gains`: rows of `gains.csv`, a seed each."""
    rows = gains.groupby(["backbone", "supervised"])["gain"].agg(sd="std", seeds="size")
    return of_rows(rows.reset_index(), origin)
