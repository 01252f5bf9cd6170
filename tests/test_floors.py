"""Methods below a shape that looks at no picture, by hand."""

import pandas as pd

from study.report.views.floors import below


def test_methods_below_the_best_floor_are_named():
    columns = ["method", "classes", "iou", "floor", "above_floor", "side"]
    rows = [
        ("ellipse", "novel", 58.5, "", float("nan"), ""),
        ("maskrcnn", "novel", 52.1, "ellipse", -6.4, "below"),
        ("maskrcnn", "supervised", 50.2, "ellipse", -1.0, "below"),
        ("opmask", "novel", 59.1, "ellipse", 0.6, "around"),
    ]
    found = pd.DataFrame(rows, columns=columns).assign(
        backbone="R50", supervised="voc", direction="voc → non-voc"
    )
    assert below(found) == [
        "R-50-FPN, voc → non-voc: Mask R-CNN has a mask IoU of 52.1 % in true boxes, below that of "
        "an ellipse, 58.5 %, which looks at no picture."
    ]
