"""Initial weights are what they claim to be, reach the right layers, and never run code."""

import hashlib
import os
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_model
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny import OPMASK, OVERRIDES, tiny_cfg

from opmask.errors import UserError
from opmask.evaluation.inference import load_model
from opmask.model import weights
from opmask.model.config import paper_config
from opmask.model.plain_weights import read
from opmask.training.hooks import SafeCheckpointer

LITE0 = weights.LITE0


class Malicious:
    """Its pickle makes whoever loads it without care create a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("ending", [".pkl", ".pth", ".pyth", ".safetensors"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, ending, protocol):
    path, trace = tmp_path / f"model{ending}", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"conv1_w": Malicious(trace)}, protocol))
    model = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match="model.*: refused"):
        SafeCheckpointer(model).load(str(path))
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # it does run where nobody is careful
    assert trace.exists()


def test_a_malicious_torch_file_is_refused_by_training_and_inference(tmp_path):
    path, trace = tmp_path / "model_final.pth", tmp_path / "executed"
    torch.save({"model": Malicious(trace)}, path)
    with pytest.raises(UserError, match="refused"):
        load_model(tiny_cfg(), path)
    with pytest.raises(UserError, match="refused"):
        SafeCheckpointer(torch.nn.Linear(1, 1), str(tmp_path)).resume_or_load(str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cposix\nsystem\n(S'true'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",  # a dotted name, protocol 4
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
    ],
)
def test_only_arrays_are_unpickled(tmp_path, call):
    path = tmp_path / "weights.pkl"
    path.write_bytes(call)
    with pytest.raises(UserError, match="refused: not plain weights"):
        read(str(path))


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int64]),
        arrays.array_shapes(max_dims=4, max_side=3),
    ),
    st.sampled_from([0, 1, 2, 3, 4, 5]),
)
def test_arrays_of_any_pickle_protocol_are_read(tmp_path_factory, array, protocol):
    path = tmp_path_factory.mktemp("arrays") / "R-50.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": array, "conv1_w_momentum": array}, protocol))
    found = read(str(path))
    assert (list(found["model"]), found["__author__"]) == (["conv1_w"], "Caffe2")
    np.testing.assert_array_equal(found["model"]["conv1_w"], array)


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"conv1_w": np.array([{}])}, "text"])
def test_data_that_is_no_weights_is_refused(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    torch.save(content if not isinstance(content, dict) else {"model": 3}, tmp_path / "a.pth")
    for name in ("a.pkl", "a.pth"):
        with pytest.raises(UserError, match=f"{name}: refused: not plain weights"):
            read(str(tmp_path / name))


def test_a_python_2_pickle_of_caffe2_is_read(tmp_path):
    # numpy.float32([1, 2]) as Python 2 with numpy 1 pickled it, protocol 2
    content = (
        b"\x80\x02}q\x00U\x07conv1_wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray"
        b"\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01"
        b"\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        b"\x00\x00\x80?\x00\x00\x00@tbs."
    )
    (tmp_path / "R-50.pkl").write_bytes(content)
    found = read(str(tmp_path / "R-50.pkl"))
    np.testing.assert_array_equal(found["model"]["conv1_w"], np.float32([1, 2]))


def config(backbone, **changes):
    overrides = {
        key: value
        for key, value in OVERRIDES.items()
        if "RESNETS" not in key and "WEIGHTS" not in key
    }
    return paper_config(
        method=OPMASK, backbone=backbone, supervised=[0, 1], num_classes=4,
        overrides={**overrides, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def resnet():
    """torchvision's ResNet-50 with statistics that a wrongly named layer would show."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().eval()
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bn1.bias", "bn2.bias", "bn3.bias", "downsample.1.bias")):
            value.normal_(0, 0.1)
        elif name.endswith(("running_var", "bn3.weight")):
            value.uniform_(0.5, 1.0)
    return model


def features(resnet, images):
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    found = {}
    for stage in range(1, 5):
        x = getattr(resnet, f"layer{stage}")(x)
        found[f"res{stage + 1}"] = x
    return found


@torch.no_grad()
def test_torchvision_weights_compute_what_torchvision_does(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "resnet50.pth")
    cfg = config({"resnet": 50, "weights": str(tmp_path / "resnet50.pth")})
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("RGB", False)
    model = build_model(cfg).eval().double()  # float32 now and then rounds too far
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    images = torch.rand(1, 3, 64, 96).double()  # torchvision's own: RGB from 0 to 1, normalised
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = features(
        deepcopy(resnet).double(), (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    )
    found = model.backbone.bottom_up((255 * images - model.pixel_mean) / model.pixel_std)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4)


def caffe2_names(state):
    """A ResNet's weights as Caffe2 has them: BN merged into a scale `_s` and a bias `_b`."""
    result = {"conv1_w": state["conv1.weight"], "fc1000_w": state["fc.weight"]}

    def merge(name, there):
        scale = state[f"{there}.weight"] / (state[f"{there}.running_var"] + 1e-5).sqrt()
        result[f"{name}_s"] = scale
        result[f"{name}_b"] = state[f"{there}.bias"] - state[f"{there}.running_mean"] * scale

    merge("res_conv1_bn", "bn1")
    for name in state:
        if not (
            name.startswith("layer") and name.endswith(("conv1.weight", "downsample.0.weight"))
        ):
            continue
        layer, block, *_ = name.split(".")
        there, here = f"{layer}.{block}", f"res{int(layer[-1]) + 1}_{block}"
        parts = {"2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3")}
        if "downsample" in name:
            parts = {"1": ("downsample.0", "downsample.1")}
        for branch, (conv, norm) in parts.items():
            result[f"{here}_branch{branch}_w"] = state[f"{there}.{conv}.weight"]
            merge(f"{here}_branch{branch}_bn", f"{there}.{norm}")
    return {name: value.numpy() for name, value in result.items()}


@pytest.mark.slow
@torch.no_grad()
def test_a_caffe2_pickle_reaches_every_layer_of_a_resnet(resnet, tmp_path):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(caffe2_names(resnet.state_dict()), 2))
    cfg = config({"resnet": 50, "weights": str(tmp_path / "R-50.pkl")})
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BGR", True)  # as MSRA's
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False  # the reference is torchvision's
    model = build_model(cfg).eval()
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    images = torch.randn(1, 3, 64, 64)
    found = model.backbone.bottom_up(images)
    for name, value in features(resnet, images).items():
        assert (found[name] - value).norm() < 1e-3 * value.norm()


def test_weights_of_another_backbone_are_refused(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "resnet50.pth")
    narrow = {key: OVERRIDES[key] for key in OVERRIDES if "RESNETS" in key}
    model = build_model(config({"resnet": 50}, **narrow))
    with pytest.raises(UserError, match=r"resnet50.pth: not of this backbone.*stem.conv1.*64"):
        SafeCheckpointer(model).load(str(tmp_path / "resnet50.pth"))
    deeper = build_model(config({"resnet": 101}))
    with pytest.raises(UserError, match=r"not of this backbone: 153 .*res4.6"):
        SafeCheckpointer(deeper).load(str(tmp_path / "resnet50.pth"))


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"resnet": 50}, "detectron2://ImageNetPretrained/MSRA/R-50.pkl"),
        ({"resnet": 101, "weights": "msra"}, "detectron2://ImageNetPretrained/MSRA/R-101.pkl"),
        ({"resnet": 50, "weights": "none"}, ""),
        ({"resnet": 50, "weights": "a/R-50.pkl", "sha256": "ab"}, "a/R-50.pkl#sha256=ab"),
        ({"timm": "convnext_tiny"}, "timm"),
        ({"timm": "tf_efficientnet_lite0", "weights": LITE0}, LITE0),
    ],
)
def test_addresses(definition, expected):
    assert weights.address(definition) == expected


def test_torchvision_publishes_its_checksums():
    for depth in (50, 101):
        address = weights.address({"resnet": depth, "weights": "torchvision"})
        known = getattr(torchvision.models, f"ResNet{depth}_Weights").IMAGENET1K_V1.url
        assert address == known
        name = address.rsplit("/", 1)[1]
        assert weights.SHA256[name] == name.split("-")[1].removesuffix(".pth")


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path):
    path = tmp_path / "resnet50-0676ba61.pth"
    path.write_bytes(b"truncated")
    digest = hashlib.sha256(b"truncated").hexdigest()
    with pytest.raises(UserError, match=rf"0676ba61.pth: SHA-256 is {digest}, not 0676ba61…"):
        weights.local_file(str(path))


def test_a_given_checksum_is_verified(tmp_path):
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": np.ones(1)}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.local_file(f"{path}#sha256={digest.upper()}") == str(path)
    with pytest.raises(UserError, match="R-50.pkl: SHA-256 is"):
        weights.local_file(f"{path}#sha256={'0' * 64}")


def test_missing_weights(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nowhere.pth: no such file; see paper.yaml"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / "nowhere.pth"))
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="127.0.0.1.*cannot be fetched.*may be a file"):
        weights.local_file("http://127.0.0.1:9/R-50.pkl")  # nothing listens there
    with pytest.raises(UserError, match=r"cannot be fetched"):
        weights.local_file("catalog://ImageNetPretrained/MSRA/R-9000.pkl")
