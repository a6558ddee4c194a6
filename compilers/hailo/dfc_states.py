"""States of a model on its way through the SDK, kept as HAR files from which one can go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Table = dict[str, Any]


class States:
    """A folder of states, each named by all that determines it.

    A state is `<stage>-<key>.har`, for the last stage a .hef too, and a .json with their hashes and
    what is to be known of how they came about. The .json is written last: without it, or where a
    file is not the one it names, there is no such state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, stage: str, key: str, suffix: str = ".har") -> Path:
        """Where a file of a state lies."""
        return self.folder / f"{stage}-{key}{suffix}"

    def facts(self, stage: str, key: str) -> Table | None:
        """What was kept of a state; None where there is none, or where a file of it is damaged."""
        try:
            text = self.path(stage, key, ".json").read_text(encoding="utf-8")
            table: Table = json.loads(text)
            for suffix, sha256 in table["files"].items():
                if file_sha256(self.path(stage, key, suffix)) != sha256:
                    print(f"state {stage} {key[:12]} is damaged: it is made again")
                    return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        facts: Table = table["facts"]
        return facts

    def keep(
        self, stage: str, key: str, writers: dict[str, Callable[[str], None]], facts: Table
    ) -> None:
        """Have the files of a state written, by suffix, and what is to be known of it."""
        files = {}
        self.drop(stage, key)
        for suffix, write in writers.items():
            with self._replacing(self.path(stage, key, suffix)) as path:
                write(str(path))
            files[suffix] = file_sha256(self.path(stage, key, suffix))
        text = json.dumps({"stage": stage, "files": files, "facts": facts}, indent=1)
        with self._replacing(self.path(stage, key, ".json")) as path:
            path.write_text(text, encoding="utf-8")

    def drop(self, stage: str, key: str) -> None:
        """Let a state go that turned out to be no good."""
        for suffix in (".json", ".har", ".hef"):
            with contextlib.suppress(FileNotFoundError):
                self.path(stage, key, suffix).unlink()

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        # a folder of its own: the SDK may add to the name it is given, or write files beside
        work = Path(tempfile.mkdtemp(prefix=".writing-", dir=str(self.folder)))
        try:
            yield work / path.name
            with (work / path.name).open("rb") as file:
                os.fsync(file.fileno())
            (work / path.name).replace(path)
        finally:
            shutil.rmtree(str(work), ignore_errors=True)


def key_of(parts: Table) -> str:
    """A hash over all that determines a state."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def surroundings() -> dict[str, str]:
    """What besides its arguments changes what the SDK makes: its settings, and whether there is a
    GPU, without which it optimizes less.
    """
    settings = {key: os.environ[key] for key in sorted(os.environ) if key.startswith("HAILO_")}
    # which of several is taken changes nothing, and the SDK itself writes that into the variable
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    found = not hidden and any(Path("/dev").glob("nvidia[0-9]*"))
    return {"gpu": "found" if found else "none", **settings}


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def program_sha256() -> str:
    """The hash of this program: its own file and the modules of its folder."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in [here.with_suffix(".py"), *sorted(here.glob("*.py"))]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
