"""Work folders: where trainings live until published, named by all that determines them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opmask.integrity import sha256
from study.spec.code import code_of
from study.spec.paths import Paths


def key(modules: Sequence[str], content: Any, files: Sequence[Path]) -> str:
    """64 hexadecimal digits, of `content`, the files that exist and the code `modules` rest on."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    digest.update(code_of(*modules).encode())
    for path in files:
        if path.is_file():
            digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()


def folder(
    name: str,
    modules: Sequence[str],
    content: Any,
    files: Sequence[Path],
    params: Mapping[str, Any],
) -> Path:
    """`work/<scale>-<name>-<key>`: a checkpoint is resumed only by the code that wrote it."""
    paths = Paths.of(params)
    return paths.work / f"{paths.scale}-{name}-{key(modules, content, files)[:12]}"


def phase_folder(
    module: str, backbone: str, number: int, weights: Path, params: Mapping[str, Any]
) -> Path:
    """Where phase `number` (from 1) of a backbone's warm start trains, beginning with `weights`.

    module: stage `pretrain`'s.
    """
    scale = params["scales"][params["scale"]]
    phase = scale["warm_start"][backbone]["phases"][number - 1]
    config = {**scale["config"], **phase}  # what a phase sets itself is no matter of the scale's
    content = [config, scale["precision"], params["backbones"][backbone]]
    files = [Paths.of(params).manifest, weights]
    if scenes := scale.get("warm_start_scenes"):
        content, files = [*content, scenes, scale["data"]["image_size"]], [weights]
    return folder(f"pretrain-{backbone}-{number}", [module], content, files, params)


def scenes_folder(module: str, params: Mapping[str, Any]) -> Path:
    """Where stage `pretrain` (`module`) draws the scenes that only the warm start learns from."""
    scale = params["scales"][params["scale"]]
    content = [scale["warm_start_scenes"], scale["data"]["image_size"]]
    return folder("scenes", [module], content, [], params)


def deepened_file(backbone: str, params: Mapping[str, Any]) -> Path:
    """Where stage `pretrain` puts the weights of a smaller backbone, made as deep as this one."""
    paths = Paths.of(params)
    return paths.work / f"{paths.scale}-{backbone}-deepened.pth"
