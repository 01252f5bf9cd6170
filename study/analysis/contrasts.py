"""Paired contrasts between runs, declared in `contrasts.yaml` (paper, sections 4.3 and 4.4).

What the paper says in a sentence (`claimed`), what its Table 1 only implies, and our control: a
baseline with OPMask's seven mask convolutions but no prior, which splits the paper's gain into a
deeper head and the prior. A contrast is the AP of run A minus that of run B, on the same validation
images and classes; of masks, their IoU in true boxes beside it (`study.analysis.oracle`), which no
box head has a say in. The same questions are asked of runs that the paper does not have
(`further_contrasts`): your own splits, classes and backbones.

The interval is of a paired bootstrap over images (`study.analysis.resampling`). Two further errors
stand beside it: between training seeds, and between classes, as if the classes tested had been
drawn from a larger set of their kind.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd
from statsmodels.stats.multitest import multipletests

from opmask.evaluation.bootstrap import class_interval
from study import paper
from study.analysis.declared import load
from study.analysis.estimate import NAN, Estimate
from study.analysis.oracle import Oracle
from study.analysis.resampling import Resampler
from study.labels import BASELINE, DIFFERENCE, METHODS, OURS
from study.spec.run import Run


@dataclass(frozen=True)
class Contrast:
    """AP of run `a` minus AP of run `b` (METHOD-BACKBONE-SUPERVISED), percent."""

    name: str
    claim: str
    a: str
    b: str
    classes: str  # novel | supervised | all
    section: str = "4.3"
    claimed: bool = False  # a sentence of the paper states it: a member of the Holm family
    paper: float = NAN
    task: str = "segm"


def _with_stated(declared: Sequence[Contrast]) -> Iterator[Contrast]:
    """With the paper's difference of each: in its text, else in Table 1; NaN where it has none."""
    text = paper.load("ablation").set_index(["a", "b"])["AP"].to_dict()
    points = paper.load("figure6").set_index(["method", "supervised"])["AP"]
    gains = points[DIFFERENCE].items()
    text |= {(f"{OURS}-R50-{s}", f"{BASELINE}-R50-{s}"): gain for s, gain in gains}
    table = paper.load("table1").set_index(["method", "backbone", "supervised"])["AP"].to_dict()
    for one in declared:
        runs = map(Run.from_name, (one.a, one.b))
        a, b = (table.get((METHODS.get(r.method), r.backbone, r.supervised), NAN) for r in runs)
        yield replace(one, paper=text.get((one.a, one.b), round(a - b, 1)))


CONTRASTS = tuple(_with_stated([Contrast(**one) for one in load("contrasts")]))

# Of further runs, by name of the question: (claim, method A, method B).
QUESTIONS = {
    "gain": ("OPMask against its baseline", "opmask", "maskrcnn"),
    "prior": ("The prior, at equal depth of the mask head", "opmask", "maskrcnn7"),
    "depth": ("Three more mask convolutions, without the prior", "maskrcnn7", "maskrcnn"),
    "map": ("The map against a Gaussian in the box", "opmask", "opmask_gaussian"),
    "boxes teach": ("Boxes of novel classes teach masks, too", "opmask_boxinst", "opmask"),
}
IOU = "IoU"  # the metric of masks in true boxes
CLAIMS = frozenset(claim for claim, _, _ in QUESTIONS.values())
_COLUMNS = ["name", "section", "claim", "claimed", "a", "b", "classes", "tested", "task", "metric",
            "value_a", "value_b", "difference", "low", "high", "p", "p_holm", "class_low",
            "class_high", "seeds", "sd", "paper"]  # fmt: skip


def further_contrasts(
    runs: Sequence[Run], declared: Collection[Contrast] = CONTRASTS
) -> tuple[Contrast, ...]:
    """QUESTIONS of every backbone and split of which `runs` has both methods, but what is declared,
    this way or the other."""
    known = {ends for one in declared for ends in ((one.a, one.b), (one.b, one.a))}
    made = {f"{run.method}-{run.backbone}-{run.supervised}" for run in runs}
    found = []
    for backbone, split in dict.fromkeys((run.backbone, run.supervised) for run in runs):
        for name, (claim, *methods) in QUESTIONS.items():
            a, b = (f"{method}-{backbone}-{split}" for method in methods)
            if {a, b} <= made and (a, b) not in known:
                classes = "all" if split == "all" else "novel"
                found.append(Contrast(f"{name} {backbone} {split}", claim, a, b, classes, ""))
    return tuple(found)


def of_further(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `contrast_table` that are of `further_contrasts`, in AP."""
    return table[table["claim"].isin(CLAIMS) & table["metric"].eq("AP")]


def contrast_table(
    resampler: Resampler,
    contrasts: Sequence[Contrast] = CONTRASTS,
    oracle: Oracle | None = None,
) -> pd.DataFrame:
    """A row a contrast, in the order declared, `difference` NaN: not run; with `oracle` a second
    one below each that is about masks, of mask IoU in true boxes.

    Columns: name, section, claim, claimed (a sentence of the paper says so), a, b (runs), classes
    (novel | supervised | all), tested (their number), task (segm | bbox | oracle), metric (AP, mean
    over classes | IoU, mean over objects; percent); value_a, value_b (mean over seeds), difference
    (a − b); low, high (95 %, paired bootstrap over images), p (two-sided, the same bootstrap),
    p_holm (Holm over the claimed contrasts of this metric that were run; NaN for others);
    class_low, class_high (95 %, bootstrap over classes); seeds (those that both runs have), sd (of
    the difference over these seeds, NaN for fewer than two); paper (its difference in AP; NaN where
    it gives none).
    """
    rows = []
    for contrast in contrasts:
        rows.append(_row(resampler, contrast))
        if oracle and contrast.task == "segm":
            rows.append(_oracle_row(oracle, contrast))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    for metric in ("AP", IOU):
        family = table["claimed"] & table["p"].notna() & table["metric"].eq(metric)
        if family.any():
            table.loc[family, "p_holm"] = multipletests(table.loc[family, "p"], method="holm")[1]
    return table


def _row(resampler: Resampler, contrast: Contrast) -> dict[str, object]:
    row = asdict(contrast) | {"metric": "AP"}
    ids = resampler.classes(contrast.a, contrast.classes)
    either = ids or resampler.classes(contrast.b, contrast.classes)
    if len(resampler.rows(contrast.a, contrast.task)):  # none is novel to a run with all masks
        ids = either
    for side in ("a", "b"):
        one = resampler.ap(row[side], contrast.task)
        row[f"value_{side}"] = one.of(either).estimate().value if one else NAN
    gain, by_class = Estimate(), (NAN, NAN)
    if found := resampler.gain(contrast.a, contrast.b, ids, contrast.task):
        settings = {"resamples": resampler.resamples, "seed": resampler.seed}
        gain, by_class = found.estimate(), class_interval(found.draws[0], **settings)
    return row | _columns(gain, by_class, len(ids))


def _oracle_row(oracle: Oracle, contrast: Contrast) -> dict[str, object]:
    row = asdict(contrast) | {"task": "oracle", "metric": IOU, "paper": NAN}
    ids = oracle.runs.classes(contrast.a, contrast.classes)
    ids = ids or oracle.runs.classes(contrast.b, contrast.classes)
    objects = oracle.objects(ids)
    a, b = (oracle.scores(name) for name in (contrast.a, contrast.b))
    for side, one in (("a", a), ("b", b)):
        row[f"value_{side}"] = oracle.estimate(one, objects).value if one else NAN
    gain, by_class = Estimate(), (NAN, NAN)
    if a and b:
        gain = oracle.estimate(a - b, objects)
        by_class = oracle.class_interval(a - b, objects)
    return row | _columns(gain, by_class, len(ids))


def _columns(gain: Estimate, by_class: tuple[float, float], tested: int) -> dict[str, object]:
    columns = {name: getattr(gain, name) for name in ("low", "high", "p", "seeds", "sd")}
    columns |= {"difference": gain.value, "tested": tested, "p_holm": NAN}
    return columns | {"class_low": by_class[0], "class_high": by_class[1]}
