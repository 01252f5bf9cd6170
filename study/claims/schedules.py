"""Claims of sections 4.4, the prior as a mask and mask gradients, and 4.5, the schedule."""

from study.claims import evidence as e
from study.claims import schedule_evidence as s
from study.claims.claim import Claim
from study.claims.rules import NEGLIGIBLE, Side, Significance

HEAVILY = 0.5  # a correlation from here on is a strong one (Cohen 1988)
_CAMS = (
    "The Mask R-CNN, where the backbone features are augmented with mask gradients, does not show "
    "significant improvements over the Faster R-CNN."
)

SCHEDULES = (
    Claim(
        "mask-gradients",
        "4.4",
        "improving the final mask AP by 1.1 points in non-voc → voc with ResNet-50 backbone",
        "Novel mask AP is higher with mask gradients into the box head than without: the sign.",
        e.contrasts("mask gradients"),
    ),
    Claim(
        "omp-better-than-cam",
        "4.4",
        "The results show that our OMP is significantly better than the CAMs of Faster R-CNN and "
        "Mask R-CNN.",
        "AP of the map itself as the mask, all train and test sets of Table 2.",
        e.table2(("opmask", "maskrcnn"), ("opmask", "fasterrcnn")),
    ),
    Claim(
        "cam-not-significant",
        "4.4",
        _CAMS,
        "The paper's criterion: in no cell of Table 2 is Mask R-CNN's CAM better with p < .01.",
        e.table2(("maskrcnn", "fasterrcnn")),
        Significance(1, significant=False),
    ),
    Claim(
        "cam-no-better",
        "4.4",
        _CAMS,
        f"The right test: Mask R-CNN's CAM is better by less than {NEGLIGIBLE:g} AP in every cell "
        "of Table 2.",
        e.table2(("maskrcnn", "fasterrcnn")),
        Side(-1, NEGLIGIBLE),
    ),
    Claim(
        "overfitting",
        "4.5",
        "When training with conventional schedules optimized for fully supervised setups [13, 34], "
        "we observed considerable overfitting of the mask head.",
        "In the search, novel mask AP on held-out images falls from 130k to 180k, and by more than "
        "that of the supervised classes, in both directions.",
        s.overfitting(),
        paper="no number",
    ),
    Claim(
        "second-step",
        "4.5",
        "after the second learning rate step of a usual Mask R-CNN schedule [34], the mask head "
        "overfits to the supervised classes and generalizes worse",
        "Novel mask AP is higher after 130k, which has one step, than after 3x, which has two, in "
        "both directions.",
        s.table3("3x", "segm"),
    ),
    Claim(
        "picks-130k",
        "4.5",
        "This resulted in a new schedule of 130k iterations with a learning rate step after 120k "
        "iterations.",
        f"No snapshot of the search is better than that nearest to 130k by {NEGLIGIBLE:g} AP or "
        "more: novel classes, held-out images, the best compromise of both directions.",
        s.search_pick(),
        Side(-1, NEGLIGIBLE),
        "130k",
    ),
    Claim(
        "better-than-1x",
        "4.5",
        "we craft a new schedule that introduces a better compromise between box and mask "
        "performance",
        "Novel mask AP is higher with 130k than with 1x, in both directions (R-50).",
        s.table3("1x", "segm", backbones=("R50",)),
    ),
    Claim(
        "box-best-at-3x",
        "4.5",
        "The box head, which receives supervision for all classes, performs best with the 3x "
        "schedule",
        "Box AP of all classes is higher with 3x than with 130k and 1x.",
        s.box_best_at_3x(),
    ),
    Claim(
        "better-than-3x-voc",
        "4.5",
        "In the voc → non-voc split, our 130k schedule performs considerably better than the 3x "
        "schedule despite worse AP_Box.",
        "Novel mask AP, voc → non-voc, both backbones.",
        s.table3("3x", "segm", ("voc",)),
    ),
    Claim(
        "less-severe-nonvoc",
        "4.5",
        "With more mask labels available (non-voc → voc) the effect is not as severe",
        "130k − 3x in novel mask AP is larger in voc → non-voc than in non-voc → voc.",
        s.schedule_by_direction(),
    ),
    Claim(
        "no-sacrifice-nonvoc",
        "4.5",
        "while not sacrificing much performance when more supervision is available",
        f"In non-voc → voc 130k is less than {NEGLIGIBLE:g} AP worse than 3x in novel mask AP.",
        s.table3("3x", "segm", ("nonvoc",)),
        Side(1, -NEGLIGIBLE),
    ),
    Claim(
        "box-mask-correlation-runs",
        "4.5",
        "the mask AP is heavily positively correlated with AP_Box",
        f"Over the runs of Table 3, r lies above {HEAVILY:g} in each direction.",
        s.box_against_mask_by_run(),
        Side(1, HEAVILY),
    ),
    Claim(
        "box-mask-correlation-classes",
        "4.5",
        "the quality of the instance mask strongly depends on the previously detected box",
        f"Over the novel classes of OPMask's R-50 runs, r of box AP and mask AP lies above "
        f"{HEAVILY:g} in each direction.",
        s.box_against_mask_by_class(),
        Side(1, HEAVILY),
        "no number",
    ),
)
