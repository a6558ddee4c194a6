"""Hashes of files and folders, remembered while a file is untouched."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

RACY_NS = 2_000_000_000
_memo: dict[str, tuple[list[int], str]] = {}
_loaded: set[Path] = set()


def file_sha256(path: Path, *, memo: bool = True) -> str:
    """The SHA-256 of a file's bytes.

    With `memo`, a file whose size, times and inode are as when it was last hashed is not read
    again, unless it was changed less than two seconds before that (git's "racily clean" rule).
    """
    if not memo:
        return _read_sha256(path)
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    name = str(path.resolve())
    known = _memo.get(name)
    if known and known[0] == state:
        return known[1]
    found = _read_sha256(path)
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > RACY_NS:
        _memo[name] = (state, found)
    return found


def files_sha256(paths: Iterable[Path]) -> str:
    """One hash over the names and contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def bytes_sha256(data: bytes) -> str:
    """The SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def load_memo(folder: Path) -> None:
    """Take up what was remembered in `folder`; damaged or absent memory is no memory."""
    if folder in _loaded:
        return
    _loaded.add(folder)
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        stored = json.loads((folder / "hashes.json").read_text(encoding="utf-8"))
        known = {str(name): (list(state), str(sha256)) for name, (state, sha256) in stored.items()}
        _memo.update({name: kept for name, kept in known.items() if name not in _memo})


def save_memo(folder: Path) -> None:
    """Keep what is remembered in `folder`; where that cannot be written, the next run hashes."""
    part = folder / f"hashes.{os.getpid()}.part"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(json.dumps(_memo), encoding="utf-8")
            part.replace(folder / "hashes.json")
        finally:
            part.unlink(missing_ok=True)


def _read_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
