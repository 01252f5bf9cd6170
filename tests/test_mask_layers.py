"""The mask head's matrix layers against torch's convolutions."""

import copy

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead

from opmask.model.cpu import MatrixDeconvolution, MatrixPointwise, use_matrix_mask_layers


@pytest.mark.parametrize("rois", [0, 1, 5])
@pytest.mark.parametrize("classes", [1, 3])
def test_outputs_and_gradients_equal_torchs(rois, classes):
    torch.manual_seed(0)
    shape = ShapeSpec(channels=6, height=14, width=14)
    head = MaskRCNNConvUpsampleHead(
        shape, num_classes=classes, conv_dims=[8, 10], conv_norm="BN" if rois else ""
    )
    torch.nn.init.normal_(head.predictor.bias)
    torch.nn.init.normal_(head.deconv.bias)
    twin = copy.deepcopy(head)
    use_matrix_mask_layers(twin)
    assert isinstance(twin.deconv, MatrixDeconvolution)
    assert isinstance(twin.predictor, MatrixPointwise)
    assert twin.state_dict().keys() == head.state_dict().keys()

    x = torch.randn(rois, 6, 14, 14)
    weight = torch.randn(rois, classes, 28, 28)
    results = []
    for model in (head, twin):
        given = x.clone().requires_grad_()
        logits = model.layers(given)
        assert logits.shape == weight.shape
        gradients = torch.autograd.grad((logits * weight).sum(), [given, *model.parameters()])
        results.append([logits, *gradients])
    for found, wanted in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
