"""Stage `code`: what each stage's results rest on, one file a stage; DVC runs it every time.

See docs/code-digests.md.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from pipeline import command
from study.runs.dvc_files import mend_run_cache
from study.spec.code import record_file, stage_record
from study.spec.codedigest import differences
from study.spec.params import load_params


@command
def run(argv: Sequence[str]) -> None:
    """Write `runs/code/<stage>.json` for all other stages of dvc.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.code", description=__doc__)
    parser.add_argument(
        "--changed",
        action="store_true",
        help="write nothing; say for each stage what differs from its file",
    )
    args = parser.parse_args(argv)
    load_params()  # wrong ones are refused here, in our words, before DVC misses a file or key
    mend_run_cache()  # this stage is the first of every dvc repro
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    records = {stage: stage_record(stage) for stage in stages if stage != "code"}
    if args.changed:
        print("\n".join(changes(records)) or "nothing has changed")
        return
    for stage, content in records.items():
        record_file(stage).parent.mkdir(parents=True, exist_ok=True)
        record_file(stage).write_text(content)


def changes(records: Mapping[str, str]) -> list[str]:
    """`<stage>: <what changed>, …` for each of `records` that is not what its file holds."""
    lines = []
    for stage, content in records.items():
        path = record_file(stage)
        old = json.loads(path.read_text()) if path.is_file() else {}
        if found := differences(old, json.loads(content)):
            lines.append(f"{stage}: {', '.join(found) if old else 'has no record yet'}")
    return lines


if __name__ == "__main__":
    run()
