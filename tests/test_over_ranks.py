"""Training shared by processes: losses over all RoIs, and nothing that DDP would wait for."""

from pathlib import Path

import opmask  # noqa: F401  before detectron2: spawned processes have no conftest.py

# isort: split
import pytest
import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage
from test_method import SIZE, build, inputs, targets
from tiny import tiny_cfg, write_images
from torch.nn.parallel import DistributedDataParallel

from opmask.data.coco import load_training_dicts
from opmask.data.loader import build_loader
from opmask.model.ranks import over_all_ranks

RANKS = 2
TAUGHT = ((9, 2), (3, 0), (0, 0))  # how many objects of either image have a mask


def heads_without_batch_norm() -> torch.nn.Module:
    """Whose outputs of a RoI do not depend on the others; all proposals are sampled."""
    heads = build(ROI_BOX_HEAD__NORM="", ROI_MASK_HEAD__NORM="").train()
    heads.positive_fraction = 1.0
    return heads


def step(images: list[int], taught: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Losses and gradients of some of two images, of which image k has `taught[k]` masks."""
    heads = heads_without_batch_norm()
    features, proposals = inputs()
    given = targets()
    for image, count in zip(given, taught, strict=True):
        image.gt_has_mask = torch.arange(len(image)) < count
    proposals[1] = proposals[1][:7]
    features = {name: maps[images] for name, maps in features.items()}
    pick = [proposals[k] for k in images], [given[k] for k in images]
    with EventStorage():
        _, losses = heads(ImageList(torch.zeros(len(images), 3, *SIZE), [SIZE]), features, *pick)
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in heads.named_parameters() if p.grad is not None}
    return {name: x.detach() for name, x in (losses | grads).items()}


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=RANKS)
    results = []
    for taught in TAUGHT:
        found = step([rank], taught)
        for value in found.values():  # as DistributedDataParallel does
            dist.all_reduce(value)
            value /= RANKS
        results.append(found)
    torch.save(results, folder / f"{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(tmp_path):
    """Though one has more RoIs and more masks, or all of them."""
    torch.multiprocessing.spawn(_rank, (tmp_path,), RANKS)
    results = [torch.load(tmp_path / f"{rank}.pth") for rank in range(RANKS)]
    for taught, *found in zip(TAUGHT, *results, strict=True):
        expected = step([0, 1], taught)
        assert (expected["loss_mask"] > 0) == (sum(taught) > 0)
        for rank in found:
            assert rank.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-6)


def test_one_process_keeps_its_losses():
    losses = {"loss": torch.rand(())}
    assert over_all_ranks(losses, 3) is losses


@pytest.fixture
def alone(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def weights_after(cfg, data, steps: int, *, distributed: bool) -> dict[str, torch.Tensor]:
    dicts, _ = load_training_dicts(data.annotations, data.images, data.supervised_ids)
    torch.manual_seed(0)
    model = build_model(cfg)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01, weight_decay=0.1)
    shared = DistributedDataParallel(model) if distributed else model
    trainer = SimpleTrainer(shared, build_loader(dicts, cfg), optimizer)
    with EventStorage() as trainer.storage:
        for trainer.iter in range(steps):
            trainer.run_step()
    return model.state_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL__META_ARCHITECTURE": "CropClassifier"},
        {"MODEL__PROPOSAL_GENERATOR__NAME": "JitteredRPN", "MODEL__MASK_ON": False},
        {},
    ],
)
def test_ddp_gets_every_gradient_it_waits_for(changes, alone, tmp_path):
    """The second step fails if a parameter had none; with one process the bits are the same."""
    cfg, data = tiny_cfg(**changes), write_images(tmp_path / "images")
    one, ddp = (weights_after(cfg, data, 2, distributed=shared) for shared in (False, True))
    assert one.keys() == ddp.keys()
    assert all(torch.equal(one[name], ddp[name]) for name in one)


def test_the_warm_start_keeps_the_fpn_as_it_was_made(tmp_path):
    cfg = tiny_cfg(MODEL__META_ARCHITECTURE="CropClassifier")
    after = weights_after(cfg, write_images(tmp_path), 1, distributed=False)
    torch.manual_seed(0)
    before = build_model(cfg).state_dict()
    fpn = [name for name in before if name.startswith("backbone.fpn_")]
    assert fpn
    assert all(torch.equal(before[name], after[name]) for name in fpn)
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])
