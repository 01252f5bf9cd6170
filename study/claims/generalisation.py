"""Claims of section 4.3: generalization to novel classes."""

from study.claims import evidence as e
from study.claims.arithmetic import quoted_gap
from study.claims.claim import Claim
from study.claims.rules import MIN_SEEDS, Equal, Side
from study.spec.results import METRICS

COMPETITIVE = 1.0  # AP: not further behind than this
_ROUNDING = 0.05  # of the paper's numbers
_OPMASK, _R50 = ("R101", "OPMask"), ("R50", "OPMask")
_SHAPE_MASK, _CP_MASK = ("R101", "ShapeMask"), ("R101", "CPMask")
_SHAPE_PROP = ("R101", "Mask R-CNN w/ ShapeProp")
_BETTER_THAN_OTHERS = (
    "OPMask also performs better than previous approaches ShapeProp [38] and ShapeMask [20] in all "
    "cases."
)
_ALL_CASES = "OPMask considerably improves over our Mask R-CNN baseline in all cases."
_INCREASE = (
    "with ResNet-50 backbone, a significant increase of 10.1 AP in non-voc → voc and 13.0 AP in "
    "voc → non-voc is achieved"
)

GENERALISATION = (
    Claim(
        "all-cases",
        "4.3",
        _ALL_CASES,
        "Novel mask AP, both backbones and both directions.",
        e.contrasts(*(f"gain {b} {s}" for b in ("R50", "R101") for s in ("nonvoc", "voc"))),
    ),
    Claim(
        "all-metrics",
        "4.3",
        _ALL_CASES,
        "The same in AP, AP50 and AP75.",
        e.table1(("AP", "AP50", "AP75")),
    ),
    Claim(
        "all-sizes",
        "4.3",
        _ALL_CASES,
        "The same for small, medium and large objects. These metrics of Table 1 have no interval "
        f"over images; they need {MIN_SEEDS} seeds.",
        e.table1(("APs", "APm", "APl"), e.SEEDS),
    ),
    Claim(
        "gain-nonvoc",
        "4.3",
        _INCREASE,
        "Non-voc → voc, R-50: the sign of the gain in novel mask AP.",
        e.contrasts("gain R50 nonvoc"),
    ),
    Claim(
        "gain-voc",
        "4.3",
        _INCREASE,
        "Voc → non-voc, R-50: the sign of the gain in novel mask AP.",
        e.contrasts("gain R50 voc"),
    ),
    Claim(
        "gain-r101",
        "4.3",
        _ALL_CASES,
        "R-101, both directions: the sign of the gain in novel mask AP.",
        e.contrasts("gain R101 nonvoc", "gain R101 voc"),
    ),
    Claim(
        "stronger-backbone",
        "4.3",
        "the stronger ResNet-101",
        "OPMask and the baseline have higher novel mask AP with R-101 than with R-50.",
        e.contrasts(
            *(f"backbone {m} {s}" for m in ("opmask", "maskrcnn") for s in ("nonvoc", "voc"))
        ),
    ),  # fmt: skip
    Claim(
        "others-ap",
        "4.3",
        _BETTER_THAN_OTHERS,
        "AP, in the paper's own Table 1 (R-101).",
        quoted_gap(_OPMASK, [_SHAPE_MASK, _SHAPE_PROP]),
        paper="better",
    ),
    Claim(
        "others-metrics",
        "4.3",
        _BETTER_THAN_OTHERS,
        "All six metrics, in the paper's own Table 1 (R-101).",
        quoted_gap(_OPMASK, [_SHAPE_MASK, _SHAPE_PROP], METRICS),
        Side(1, -_ROUNDING),
        "better",
    ),
    Claim(
        "r50-competitive",
        "4.3",
        "even with a ResNet-50, we achieve better or competitive performance than ShapeMask and "
        "ShapeProp that are equipped with the stronger ResNet-101",
        f"AP with R-50 is no more than {COMPETITIVE:g} below theirs with R-101, in the paper's own "
        "Table 1.",
        quoted_gap(_R50, [_SHAPE_MASK, _SHAPE_PROP]),
        Side(1, -COMPETITIVE),
        "better or competitive",
    ),
    Claim(
        "cpmask",
        "4.3",
        "we observe competitive performance in non-voc → voc (e.g. increase of 0.3 AP), but also "
        "slightly worse performance in voc → non-voc (e.g. 0.8 AP decrease)",
        "Both differences follow from the paper's own Table 1.",
        quoted_gap(_OPMASK, [_CP_MASK], stated=(0.3, -0.8)),
        Equal(_ROUNDING),
    ),
    Claim(
        "perforated",
        "Figure 4",
        "The Mask R-CNN baseline produces perforated, incomplete or missing masks.",
        "The share of wrong holes in masks of novel instances is smaller with OPMask, in ambiguous "
        "and in clean RoIs.",
        e.ambiguity(["perforation"], ["ambiguous", "clean"]),
        Side(-1),
    ),
    Claim(
        "incomplete",
        "Figure 4",
        "The Mask R-CNN baseline produces perforated, incomplete or missing masks.",
        "OPMask's masks cover more of the novel instances than the baseline's, in ambiguous and in "
        "clean RoIs.",
        e.ambiguity(["coverage"], ["ambiguous", "clean"]),
    ),
    Claim(
        "every-ratio",
        "4.3",
        "and consistently improves over our Mask R-CNN baseline",
        "Mask AP is higher than the baseline's with 20, 40, 60 and 80 supervised classes "
        "(Figure 6, R-50).",
        e.figure6(),
    ),
    Claim(
        "stable",
        "4.3",
        "it can be observed that OPMask remains stable across all class splits",
        "With fewer supervised classes OPMask keeps more of its AP on all 80 classes than the "
        "baseline, so that the gain is larger than with 80.",
        e.figure6_stability(),
    ),
    Claim(
        "fully-supervised",
        "4.3",
        "We also observe improvements of 1.6 AP when training on all COCO classes.",
        "Mask AP of all classes, all supervised: the sign of the gain (R-50).",
        e.contrasts("gain all"),
    ),
    Claim(
        "ambiguous-supervised",
        "4.3",
        "these improvements can be attributed to the OMP helping the class agnostic mask head to "
        "resolve ambiguous RoIs",
        "The gain in mask IoU of supervised instances, too, is larger in ambiguous RoIs than in "
        "clean ones.",
        e.ambiguity(["mask_iou"], ["difference"], "supervised"),
    ),
    Claim(
        "supervised-reliable",
        "4.3",
        "Overall, the results show that the OMP makes predictions of supervised classes more "
        "reliable and precise.",
        "Mask AP of supervised classes is higher with OPMask than with the baseline, on average "
        "over classes (R-50, the runs of Table 1).",
        e.class_means("opmask_supervised", "maskrcnn_supervised"),
    ),
)
