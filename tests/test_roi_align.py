"""The separable RoIAlign gradient against torchvision's, and where it is used."""

import pytest
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from opmask.model.cpu import SeparableROIAlign, interpolation_matrix, use_separable_roi_align

edges = st.floats(-40, 120, width=32)
boxes = st.lists(st.tuples(st.integers(0, 1), edges, edges, edges, edges), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(boxes, st.sampled_from([(7, 7), (14, 14), (3, 5)]), st.integers(1, 3))
def test_gradient_equals_torchvisions(rois, size, ratio):
    """Also for RoIs that leave the image, are empty, or turned inside out."""
    rois = torch.tensor(rois)
    x = torch.randn(2, 3, 9, 11, requires_grad=True)
    weight = torch.randn(len(rois), 3, *size)
    layer = SeparableROIAlign(size, 1 / 8, ratio, aligned=True)
    expected = roi_align(x, rois, size, 1 / 8, ratio, True)
    torch.testing.assert_close(layer(x, rois), expected)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
    (found,) = torch.autograd.grad((layer(x, rois) * weight).sum(), x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_weights_by_hand():
    # two bins from 0 to 4 sample at 1 and 3; then 0.5 and 1.5, then beyond either end
    low, high = torch.tensor([0.0, 0.0, -4.0]), torch.tensor([4.0, 2.0, 8.0])
    weights = interpolation_matrix(low, high, bins=2, size=4, ratio=1)
    by_hand = [
        [[0, 1, 0, 0], [0, 0, 0, 1]],
        [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0]],
        [[1, 0, 0, 0], [0, 0, 0, 0]],  # at -1: the first pixel's; at 5: outside
    ]
    torch.testing.assert_close(weights, torch.tensor(by_hand, dtype=torch.float32))


@pytest.mark.parametrize(("ratio", "kind"), [(1, SeparableROIAlign), (0, ROIAlign)])
def test_a_models_poolers_change_in_gradient_alone(ratio, kind):
    """Sampling that adapts to the RoI's size stays torchvision's."""
    pooler = ROIPooler(7, (1 / 4, 1 / 8), ratio, "ROIAlignV2")
    features = [torch.randn(1, 4, side, side, requires_grad=True) for side in (16, 8)]
    rois = [Boxes(torch.tensor([[3.0, 5.0, 40.0, 30.0], [0.0, 0.0, 300.0, 300.0]]))]

    def gradients():
        out = pooler(features, rois)
        return out, torch.autograd.grad(out.square().sum(), features)

    before, wanted = gradients()
    use_separable_roi_align(pooler)
    assert {type(level) for level in pooler.level_poolers} == {kind}
    after, found = gradients()
    assert torch.equal(before, after)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
