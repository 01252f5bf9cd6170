"""Which claims a scale cannot test, whatever its runs give, and why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study.claims import load

_TEXTS = load("rules")["conditions"]
_FROZEN = 5  # MODEL.BACKBONE.FREEZE_AT of a ResNet that is not trained at all


@dataclass(frozen=True)
class Setting:
    """What of a scale decides that; as given, nothing is out of reach.

    epochs: passes over the training images of the longest schedule. trained_backbone: false where
    the ResNet is frozen. own_backbones: false where one's warm start begins as another's.
    """

    epochs: float = math.inf
    trained_backbone: bool = True
    own_backbones: bool = True

    @classmethod
    def of(cls, params: Mapping[str, Any], manifest: Mapping[str, Any]) -> "Setting":
        """Of the scale in use; `manifest`: of its data, empty if there is none."""
        scale = params["scales"][params["scale"]]
        images = manifest["train"]["counts"]["images"] if manifest else math.nan
        longest = max(one["max_iter"] for one in params["schedules"].values())
        batch = scale["config"].get("SOLVER.IMS_PER_BATCH", 16)  # the paper's
        return cls(
            epochs=longest * scale["schedule_factor"] * batch / images,
            trained_backbone=scale["config"].get("MODEL.BACKBONE.FREEZE_AT", 2) < _FROZEN,
            own_backbones=not any("deepen" in one for one in scale["warm_start"].values()),
        )

    def lacks(self, wanted: Mapping[str, Any]) -> str:
        """Why what a claim wants is not there, in words; empty if it is.

        wanted: fields of this class; `epochs` at least, the others as they say.
        """
        reasons = [
            _TEXTS[name].format(wanted=value, here=getattr(self, name))
            for name, value in wanted.items()
            if getattr(self, name) < value
        ]
        return "; ".join(reasons)


COMPLETE = Setting()
