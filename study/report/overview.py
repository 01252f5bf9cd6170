"""The headline numbers of a scale for DVC (`metrics.json`), and the page that sets all scales side
by side (`reports/README.md`), both from Table 1's csv.
"""

import math
from collections.abc import Mapping
from itertools import combinations

import pandas as pd

from study.analysis.comparison import Comparison, comparisons
from study.claims.rules import FAILS, HOLDS
from study.format import interval, signed
from study.labels import BACKBONES, DIRECTIONS, NOT_RUN, with_others
from study.report.blocks import Table
from study.report.render import render, say
from study.report.sentences import headline
from study.report.views.claims import of_our_runs
from study.report.views.summary import scale_in_words
from study.report.words import WORDS

_DIRECTION_KEYS = {"voc": "voc_to_nonvoc", "nonvoc": "nonvoc_to_voc"}
_KEYS = {"baseline": "novel_AP_baseline", "opmask": "novel_AP_opmask", "gain": "gain"}


def metrics(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """DVC metrics: the headline numbers by backbone and direction (`voc_to_nonvoc` …).

    AP in percent as in the table, whose csv has the intervals and all else; comparisons that were
    not run, and what they lack, are left out.
    """
    found: dict[str, dict] = {}
    for one in comparisons(table):
        values = {name: round(getattr(one, field), 4) for field, name in _KEYS.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        if values:
            found.setdefault(one.backbone, {})[_DIRECTION_KEYS[one.supervised]] = values
    return found


def render_index(
    tables: Mapping[str, pd.DataFrame],
    experiments: Mapping[str, Mapping[str, pd.DataFrame]] | None = None,
    claims: Mapping[str, pd.DataFrame] | None = None,
) -> str:
    """The Markdown of `reports/README.md`: every scale's gains side by side, and what they decide.

    Args:
        tables: each `reports/<scale>/tables/table1.csv` by scale.
        experiments: of `inputs.read_experiments`.
        claims: each `reports/<scale>/claims.csv` by scale.
    """
    repeated = {scale: list(found.values()) for scale, found in (experiments or {}).items()}
    known = list(WORDS["scales"])  # from small to large; a user's own come last
    scales = sorted(tables, key=lambda s: (known.index(s) if s in known else len(known), s))
    found = {scale: comparisons(tables[scale], repeated.get(scale, [])) for scale in scales}
    everything = {(one.backbone, one.supervised): one for s in scales for one in found[s]}
    cells = {(s, one.name): _gain_cell(one) for s in scales for one in found[s]}
    backbones = with_others(backbone for backbone, _ in everything)
    rows = [
        {"Backbone": BACKBONES[one.backbone], "Direction": DIRECTIONS[one.supervised]}
        | {scale: cells.get((scale, one.name), NOT_RUN) for scale in scales}
        | {"Paper": signed(one.paper_gain)}
        for one in sorted(everything.values(), key=lambda one: backbones.index(one.backbone))
    ]
    lines = [(scale, scale_in_words(scale), headline(found[scale], scale)) for scale in scales]
    gains = [Table(pd.DataFrame(rows), left=2)] if rows else []
    ledgers = {scale: claims[scale] for scale in scales if claims and scale in claims}
    pairs = [
        say("agreement", *pair, agreement(*(ledgers[scale] for scale in pair)))
        for pair in combinations(ledgers, 2)
    ]
    return render("reports.md.j2", scales=lines, gains=gains, pairs=pairs)


def agreement(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, list[str]]:
    """Readings of the claims that the runs of both scales decide, alike or not, and of one alone.

    `one`, `other`: `claims.csv`. Keys: both (hold at both), neither (hold at neither), first and
    second (hold there and not at the other scale), one and other (decided there alone).
    """
    decided = (HOLDS, FAILS)
    a, b = (
        {i: (verdict, reading) for i, verdict, reading in rows if verdict in decided}
        for rows in (
            ledger.loc[of_our_runs(ledger), ["id", "verdict", "reading"]].to_numpy()
            for ledger in (one, other)
        )
    )
    names = {
        (HOLDS, HOLDS): "both",
        (FAILS, FAILS): "neither",
        (HOLDS, FAILS): "first",
        (FAILS, HOLDS): "second",
    }
    found: dict[str, list[str]] = {name: [] for name in (*names.values(), "one", "other")}
    for key in (key for key in a if key in b):
        found[names[a[key][0], b[key][0]]].append(a[key][1])
    found["one"] = [a[key][1] for key in a if key not in b]
    found["other"] = [b[key][1] for key in b if key not in a]
    return found


def _gain_cell(one: Comparison) -> str:
    if one.verdict == NOT_RUN:
        return NOT_RUN
    whole = one.whole()
    text = f"{signed(one.gain, 2)} ({interval(whole.low, whole.high)})"
    return text if not math.isnan(whole.low) else f"{signed(one.gain, 2)} (noise not known)"
