"""Which trained runs DVC can bring back from its cache, without asking DVC to try.

DVC keeps what a stage made under a hash of all it was made from: the last time in dvc.lock, earlier
times in the run cache. A run is recognised by its provenance.json there, which names the work
folder and with it everything that determines the run, code included (`study.runs.folders`).
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from opmask.errors import UserError
from study.runs.dvc_lock import Entry, last_run, load
from study.runs.work import Planned


class DvcCache:
    """The cache of the DVC repository that the working directory is in; empty outside of one."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    @classmethod
    def here(cls) -> "DvcCache":
        from dvc.config import Config  # here: DVC takes half a second to import

        config = Config.from_cwd()
        if not config.dvc_dir:
            return cls(None)
        return cls(Path(config["cache"].get("dir") or Path(config.dvc_dir, "cache")))

    def has_run(self, job: Planned) -> bool:
        """Whether `job`, trained with the present settings, data and code, can be restored."""
        entries = self._entries.get(f"python -m pipeline.train {job.key}", [])
        return any(
            self._is_whole(one) and self._work(one, job.out) == job.work.name for one in entries
        )

    @cached_property
    def _entries(self) -> dict[str, list[Entry]]:
        """Entries of training stages by command."""
        found: dict[str, list[Entry]] = {}
        for entry in (*last_run().values(), *self._run_cache()):
            found.setdefault(entry["cmd"], []).append(entry)
        return found

    def _run_cache(self) -> Iterator[Entry]:
        files = sorted(self.folder.glob("runs/??/*/*")) if self.folder else []
        for path in files:
            text = path.read_text() if path.is_file() else ""
            if text.startswith("cmd: python -m pipeline.train "):  # the others are not needed
                yield load(text)

    def _is_whole(self, entry: Entry) -> bool:
        return all(self._object(out["md5"]).is_file() for out in entry["outs"])

    def _work(self, entry: Entry, published: Path) -> str | None:
        """What the run in `entry` says that its work folder was called: only to be compared."""
        for out in entry["outs"]:
            if Path(out["path"]) == published / "provenance.json":
                try:
                    return json.loads(self._object(out["md5"]).read_text())["work"]
                except (OSError, ValueError, KeyError, TypeError):  # damaged, or of something else
                    return None
        return None

    def _object(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", str(digest)):
            raise UserError(f"{digest!r} in dvc.lock or DVC's run cache is no checksum")
        return Path(self.folder or "", "files", "md5", digest[:2], digest[2:])
