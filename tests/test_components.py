"""A method's own components: imported where it is used, and no other method's results rest on
them."""

import copy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import ROI_HEADS_REGISTRY, build_model
from parameters import PARAMS, ROOT

import opmask.rivals
from opmask.errors import UserError
from opmask.model.config import add_components, add_opmask_config, load_config, paper_config
from study.runs.work import MODULE
from study.spec import code
from study.spec.overrides import check_overrides
from study.spec.run import components

NAME = "opmask.rivals.louder"
LOUDER = """
from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from opmask.model.roi_heads import OPMaskROIHeads


def add_config(cfg):
    cfg.MODEL.LOUDER = CfgNode({"FACTOR": 2.0})


@ROI_HEADS_REGISTRY.register()
class LouderROIHeads(OPMaskROIHeads):
    @classmethod
    def from_config(cls, cfg, input_shape):
        cls.factor = cfg.MODEL.LOUDER.FACTOR
        return super().from_config(cfg, input_shape)

    def mask_features(self, x, features, instances):
        return super().mask_features(x, features, instances) * self.factor
"""
METHOD = {
    "mask_head": "PriorMaskHead",
    "mask_convs": 1,
    "components": NAME,
    "roi_heads": "LouderROIHeads",
    "config": {"MODEL.LOUDER.FACTOR": 3.0},
}


@pytest.fixture
def louder(tmp_path, monkeypatch):
    """A module of `opmask.rivals` that lies elsewhere."""
    path = tmp_path / "louder.py"
    path.write_text(LOUDER)
    monkeypatch.setattr(opmask.rivals, "__path__", [*opmask.rivals.__path__, str(tmp_path)])
    yield path
    ROI_HEADS_REGISTRY._obj_map.pop("LouderROIHeads", None)
    sys.modules.pop(NAME, None)


def config(method: dict, **backbone: object):
    return paper_config(
        method=method, backbone={"resnet": 50}, supervised=[0], num_classes=2, overrides=backbone
    )


def test_a_method_brings_its_heads_and_keys(louder, tmp_path):
    assert "LouderROIHeads" not in ROI_HEADS_REGISTRY
    cfg = config(METHOD)
    assert (cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.LOUDER.FACTOR) == ("LouderROIHeads", 3.0)
    cfg.MODEL.DEVICE = "meta"
    assert build_model(cfg).roi_heads.factor == 3.0
    # Whoever uses the trained model needs to know none of this.
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "config.yaml")
    assert (again.MODEL.OPMASK.COMPONENTS, again.MODEL.LOUDER.FACTOR) == (NAME, 3.0)


def test_other_methods_bring_nothing(louder):
    assert config({"mask_head": "none"}).MODEL.OPMASK.COMPONENTS == ""
    assert "LouderROIHeads" not in ROI_HEADS_REGISTRY
    with pytest.raises(AssertionError, match="Non-existent key: MODEL.LOUDER"):
        config({"mask_head": "none", "config": {"MODEL.LOUDER.FACTOR": 3.0}})


@pytest.mark.parametrize(
    "name", ["os", "opmask.model.config", "opmask.rivals.a.b", "opmask.rivals"]
)
def test_a_file_can_name_nothing_else(name, tmp_path):
    cfg = get_cfg()
    add_opmask_config(cfg)
    with pytest.raises(ValueError, match="is no module of opmask.rivals"):
        add_components(cfg, name)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"MODEL": {"OPMASK": {"COMPONENTS": name}}}))
    with pytest.raises(UserError, match="is no module of opmask.rivals"):
        load_config(path)


def with_methods(**methods: dict) -> dict:
    params = copy.deepcopy(PARAMS) | {"scale": "coco"}
    params["methods"] |= methods
    return params


def test_plan_knows_what_each_method_may_name(louder):
    check_overrides(with_methods(louder=METHOD))
    wrong = [
        ({"components": "opmask.rivals.lauder"}, "methods.m: components: there is no module"),
        ({"roi_heads": "LouderROIHead"}, "'LouderROIHead' is unknown; did you mean"),
        ({"roi_heads": "StandardROIHeads"}, "'StandardROIHeads' is unknown"),
        ({"config": {"MODEL.LOUDER.FACTOR": "x"}}, "MODEL.LOUDER.FACTOR: 'x' is not a number"),
    ]
    for change, message in wrong:
        with pytest.raises(UserError, match=message):
            check_overrides(with_methods(m={**METHOD, **change}))


def test_no_method_uses_anothers_components_unseen(louder):
    thief = {key: value for key, value in METHOD.items() if key not in ("components", "config")}
    with pytest.raises(UserError, match="methods.thief.roi_heads: 'LouderROIHeads' is unknown"):
        check_overrides(with_methods(louder=METHOD, thief=thief))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the code, with one component more."""
    for package in code.PROJECT.packages:
        shutil.copytree(ROOT / package, tmp_path / package)
    component = tmp_path / "opmask" / "rivals" / "louder.py"
    component.write_text(LOUDER)

    def forget() -> None:
        monkeypatch.setattr(code, "PROJECT", replace(code.PROJECT, root=tmp_path))
        code.record.cache_clear()
        code.stage_record.cache_clear()

    forget()
    yield component, forget
    monkeypatch.undo()
    code.record.cache_clear()
    code.stage_record.cache_clear()


def digests() -> dict[str, str]:
    methods = {"louder": METHOD, "opmask": PARAMS["methods"]["opmask"]}
    found = {name: code.code_of(MODULE, *components(one)) for name, one in methods.items()}
    return found | {name: code.stage_record(name) for name in ("train", "evaluate", "splits")}


def changed(edit: Path, forget) -> set[str]:
    before = digests()
    edit.write_text(edit.read_text() + "\nEDITED = True\n")
    forget()
    after = digests()
    return {name for name in before if before[name] != after[name]}


def test_an_edit_of_components_concerns_their_runs_alone(project):
    component, forget = project
    assert changed(component, forget) == {"louder", "train", "evaluate"}


def test_an_edit_of_the_core_concerns_all_runs(project):
    component, forget = project
    core = component.parents[1] / "model" / "roi_heads.py"
    assert changed(core, forget) == {"louder", "opmask", "train", "evaluate"}
