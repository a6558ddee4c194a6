"""Which files and packages a stage's making read: what its entry is held against next time."""

import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.cache import cache_folder, digest_of, storage_error
from edgedeploy.digest import file_sha256
from edgedeploy.records import Record

PACKAGE = Path(__file__).resolve().parent
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr/lib", "/usr/share")


class Seen(Record):
    """Files by path, distributions by name; `more` is what else the stage wants to know again."""

    files: tuple[str, ...]
    packages: tuple[str, ...]
    more: dict[str, Any] = {}


class FileReads:
    """Files opened for reading and modules imported since it was made.

    `package` tells whether files of this package count; `output` is where the stage itself writes.
    """

    def __init__(self, output: Path | None, *, package: bool) -> None:
        self.active = True
        self._package = package
        self._opened: set[str] = set()
        # the cache is held against what it was made from, not against itself
        places = {str(cache_folder())}
        places |= {sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib")}
        places |= {str(Path(sys.base_prefix, "lib")), str(output or cache_folder()), *_SYSTEM}
        self._outside = [Path(place).resolve() for place in places]

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: note files opened to be read."""
        if not self.active or event != "open":
            return
        path, mode, _ = arguments
        if isinstance(path, str | bytes) and (mode is None or not set(mode) & set("wax+")):
            self._opened.add(str(Path(os.fsdecode(path)).absolute()))

    def add(self, *paths: Path) -> None:
        """Note files that are read past Python, as libraries in C++ or Rust do."""
        self._opened.update(str(path.absolute()) for path in paths)

    def seen(self, **more: Any) -> Seen:
        """What was read and can change under us: sorted, existing, the installed by their names."""
        modules = {name: getattr(m, "__file__", None) for name, m in list(sys.modules.items())}
        found = set()
        ours_start = f"{PACKAGE}{os.sep}"
        outside_starts = tuple(f"{place}{os.sep}" for place in self._outside)
        for name in {*self._opened, *(file for file in modules.values() if file)}:
            if name.startswith(outside_starts) and not name.startswith(ours_start):
                continue  # by far the most of them, and resolving is slow
            path = Path(name).resolve()
            ours = path.is_relative_to(PACKAGE)
            if path.suffix == ".pyc" or not path.is_file() or (ours and not self._package):
                continue
            if ours or not any(path.is_relative_to(place) for place in self._outside):
                found.add(str(path))
        by_module = importlib.metadata.packages_distributions()
        tops = {name.partition(".")[0] for name in modules}
        packages = {each for top in tops for each in by_module.get(top, ())}
        return Seen(files=tuple(sorted(found)), packages=tuple(sorted(packages)), more=more)


@contextmanager
def file_reads(output: Path | None = None, *, package: bool = True) -> Iterator[FileReads]:
    """Note what is read until the end of the block.

    Audit hooks cannot be taken away again: the hook goes quiet instead.
    """
    reads = FileReads(output, package=package)
    sys.addaudithook(reads.hear)
    try:
        yield reads
    finally:
        reads.active = False


def remember(stage: str, fixed: Mapping[str, str], seen: Seen) -> None:
    """Keep what was read by the making determined by `fixed`."""
    path = _index(stage, fixed)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(seen))
        part.replace(path)
    except OSError as err:
        raise storage_error(err, path) from err


def recall(stage: str, fixed: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]] | None:
    """All parts of a key, and the `more` kept with them; None where it is not known what is read.

    A file or package that is gone makes it unknown again.
    """
    try:
        seen = msgspec.json.decode(_index(stage, fixed).read_bytes(), type=Seen)
        files = {f"file {path}": file_sha256(Path(path)) for path in seen.files}
        packages = {f"package {n}": importlib.metadata.version(n) for n in seen.packages}
    except (OSError, msgspec.DecodeError, importlib.metadata.PackageNotFoundError):
        return None
    return {**fixed, **files, **packages}, seen.more


def _index(stage: str, fixed: Mapping[str, str]) -> Path:
    return cache_folder() / f"{stage}-files" / f"{digest_of(fixed)[:32]}.json"
