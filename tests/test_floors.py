"""Methods below a shape that looks at no picture, by hand."""

import pandas as pd

from study.report.views.floors import below


def test_methods_below_the_best_floor_are_named():
    rows = [("box", 54.2), ("ellipse", 58.5), ("maskrcnn", 52.1), ("opmask", 59.1)]
    voc = pd.DataFrame(rows, columns=["method", "novel_iou"]).assign(supervised="voc")
    nonvoc = pd.DataFrame({"method": ["maskrcnn"], "novel_iou": [1.0], "supervised": "nonvoc"})
    found = below(pd.concat([voc, nonvoc]).assign(backbone="R50"))  # no floor there: nothing
    assert found == [
        "R-50-FPN, voc → non-voc: Mask R-CNN has a mask IoU of 52.1 % in true boxes, below that of "
        "an ellipse, 58.5 %, which looks at no picture."
    ]
