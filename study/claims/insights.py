"""Claims of the abstract and sections 1 to 4.2: foreground, background, ambiguous RoIs."""

from study.claims import evidence as e
from study.claims.arithmetic import overlap_ranks, prior_cost, quoted_gap, receptive_field
from study.claims.claim import Claim
from study.claims.rules import Equal, Side, Significance

_R50_OPMASK, _R50_BASELINE = ("R50", "OPMask"), ("R50", "Our Mask R-CNN")
QUARTER = 0.25  # of the classes count as those with high mean IoU
HIGH_RANK = 80 * QUARTER + 0.5

INSIGHTS = (
    Claim(
        "baseline-struggles",
        "Abstract",
        "a conventional class-agnostic mask head has difficulties learning foreground for classes "
        "with box-supervision only",
        "The baseline's mask AP of a class is lower where the class is novel than where it is "
        "supervised, on average over classes (R-50).",
        e.class_means("maskrcnn_novelty"),
        Side(-1),
    ),
    Claim(
        "generalizes",
        "Abstract",
        "This helps the class-agnostic mask head to focus on the primary object in a region of "
        "interest (RoI) and improves generalization to novel classes.",
        "What a class loses by being novel is less with OPMask than with the baseline, on average "
        "over classes (R-50).",
        e.class_means("opmask_novelty", "maskrcnn_novelty"),
    ),
    Claim(
        "primary-object",
        "Abstract",
        "This helps the class-agnostic mask head to focus on the primary object in a region of "
        "interest (RoI)",
        "Of the pixels of other instances in its box, OPMask's mask of a novel instance covers "
        "fewer than the baseline's, in ambiguous RoIs.",
        e.ambiguity(["confusion"], ["ambiguous"]),
        Side(-1),
    ),
    Claim(
        "due-to-the-prior",
        "Abstract",
        "Our OMP resolves this by providing the mask head with the general concept of foreground",
        "OPMask is better on novel classes than the same model without the prior: the control "
        "`maskrcnn7`, a baseline with as many mask convolutions (R-50). The paper has no such run.",
        e.contrasts("prior nonvoc", "prior voc"),
    ),
    Claim(
        "thirteen",
        "1",
        "On COCO dataset [24], OPMask significantly improves over our Mask R-CNN baseline by 13.0 "
        "AP.",
        "Which difference of Table 1 this is: R-50, voc → non-voc.",
        quoted_gap(_R50_OPMASK, [_R50_BASELINE], stated=(10.1, 13.0)),
        Equal(),
    ),
    Claim(
        "resolves-ambiguous",
        "Figure 1",
        "OPMask is able to resolve ambiguous constellations and segment the correct instance, "
        "while the Mask R-CNN baseline fails to do so.",
        "Mask IoU of novel instances in ambiguous RoIs is higher with OPMask than with the "
        "baseline.",
        e.ambiguity(["mask_iou"], ["ambiguous"]),
    ),
    Claim(
        "gain-where-ambiguous",
        "1",
        "This helps the mask head to resolve ambiguous constellations",
        "The gain in mask IoU of novel instances is larger in ambiguous RoIs than in clean ones.",
        e.ambiguity(["mask_iou"], ["difference"]),
    ),
    Claim(
        "no-overhead",
        "1",
        "we natively embed the OMP into our model in an end-to-end manner, without introducing any "
        "architectural overhead",
        "The prior itself has no weights and costs less than 1 % of the box head's multiply-adds. "
        "(The deeper mask head is not counted: see the last section.)",
        prior_cost(),
        Side(-1, 1.0),
        "none",
    ),
    Claim(
        "receptive-field",
        "3.2",
        "We use seven convolution layers to achieve a receptive field large enough such that "
        "f_mask operates on the the [sic] entire input feature map.",
        "The receptive field of seven 3×3 convolutions is no smaller than the 14×14 map.",
        receptive_field(),
        Side(1, -0.5),
        "large enough",
    ),
    Claim(
        "p-baseline",
        "4.2",
        "Mask R-CNN baseline showing a significant negative correlation between mean IoU and mask "
        "AP across all classes (p = .003 < .01)",
        "The paper's criterion: the slope is negative with p < .01.",
        e.regression("maskrcnn"),
        Significance(-1),
        "p = .003",
    ),
    Claim(
        "p-opmask",
        "4.2",
        "shows only a weak negative correlation that is not strong enough to reach significance "
        "(p = .189 ≮ .01)",
        "The paper's criterion: the slope is not negative with p < .01.",
        e.regression("opmask"),
        Significance(-1, significant=False),
        "p = .189",
    ),
    Claim(
        "overlap-interaction",
        "4.2",
        "our OMP is able to provide the mask head with a general concept of foreground, which "
        "counteracts learning these novel classes as background",
        "The right test of p = .003 against p = .189: OPMask's slope lies above the baseline's, "
        "paired within classes (IoU × model), so that the gain grows with class overlap.",
        e.regression("difference"),
        paper="no test",
    ),
    Claim(
        "learned-as-background",
        "4.2",
        "This provides evidence for our hypothesis that novel classes appearing in the background "
        "of RoIs are actively learned as background during training.",
        "Then it is being novel that costs more where overlap is high: the slope of the baseline's "
        "novel minus supervised AP of the same class is negative.",
        e.regression("maskrcnn_novelty"),
        Side(-1),
        "no test",
    ),
    Claim(
        "gain-high-overlap",
        "4.2",
        "we see notable improvements for classes with high mean IoU values",
        "Novel mask AP of the quarter of the classes with the largest mean IoU is higher with "
        "OPMask, on average over them (R-50).",
        e.class_means("difference", top=QUARTER),
    ),
    Claim(
        "person-and-cat",
        "4.2",
        "(e.g. person: 0.99 to 22.72 AP, cat: 3.77 to 60.63 AP)",
        "Novel mask AP of both classes is higher with OPMask (R-50).",
        e.named_classes("person", "cat"),
    ),
    Claim(
        "person-and-cat-overlap",
        "4.2",
        "classes with high mean IoU values, which are more likely to appear in the background of "
        "other classes RoIs (e.g. person: 0.99 to 22.72 AP, cat: 3.77 to 60.63 AP)",
        "Both are among the 20 of COCO's 80 classes with the largest mean IoU, by every reading of "
        "the mean. (Of COCO's boxes, at every scale.)",
        overlap_ranks(),
        Side(-1, HIGH_RANK),
        "high",
    ),
)
