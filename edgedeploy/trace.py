"""Which files a model's making read: what a cached export is held against next time."""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr/lib", "/usr/share")


class FileReads:
    """Files opened for reading and modules imported since it was made."""

    def __init__(self, output: Path) -> None:
        self.active = True
        self._opened: set[str] = set()
        self._outside = [
            *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
            sys.base_prefix,
            *_SYSTEM,
            str(output.resolve()),
        ]

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: note files opened to be read."""
        if not self.active or event != "open":
            return
        path, mode, _ = arguments
        if isinstance(path, str) and (mode is None or not set(mode) & set("wax+")):
            self._opened.add(path)

    def files(self) -> list[Path]:
        """What was read and can change under us: sorted, existing, no installed packages."""
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        found = set()
        for name in [*self._opened, *(f for f in loaded if f)]:
            path = Path(name).resolve()
            ours = path.is_relative_to(PACKAGE)
            if path.suffix == ".pyc" or not path.is_file():
                continue
            if ours or not any(path.is_relative_to(place) for place in self._outside):
                found.add(path)
        return sorted(found)


@contextmanager
def file_reads(output: Path) -> Iterator[FileReads]:
    """Note what is read until the end of the block; `output` is where the stage itself writes.

    Audit hooks cannot be taken away again: the hook goes quiet instead.
    """
    reads = FileReads(output)
    sys.addaudithook(reads.hear)
    try:
        yield reads
    finally:
        reads.active = False
