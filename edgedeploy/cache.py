"""What stages made, kept by the hash of all that went in; a wrong hit is worse than a miss."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from edgedeploy.digest import file_sha256
from edgedeploy.errors import StorageError
from edgedeploy.records import Record

STORAGE_HINT = (
    "Free space or correct the permissions; EDGEDEPLOY_CACHE and EDGEDEPLOY_RUNS name other places."
)
_HERE_TOKEN = "@entry@"
# The disk's own refusals, whatever was being written.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class CacheEvent(Record):
    """Why a stage was taken from the cache or made: for `--explain-cache` and the report."""

    stage: str
    subject: str
    outcome: Literal["hit", "miss", "damaged", "off"]
    key: str
    why: str


class Cached(Record):
    """A stage's answer, the folder its files lie in, and how it was come by."""

    answer: dict[str, Any]
    folder: str
    event: CacheEvent


def cache_folder() -> Path:
    """`EDGEDEPLOY_CACHE`, else where this system keeps caches."""
    named = os.environ.get("EDGEDEPLOY_CACHE")
    if named:
        return Path(named).resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgedeploy"))


def digest_of(parts: Mapping[str, str]) -> str:
    """One hash over named parts, independent of their order."""
    text = json.dumps(sorted(parts.items()), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def build(
    stage: str,
    subject: str,
    parts: Mapping[str, str],
    make: Callable[[Path], dict[str, Any]],
    *,
    use: bool = True,
) -> Cached:
    """The entry for `parts`, from the cache if it is whole, else made by `make(folder)`.

    `make` writes its files into the folder given and answers what can be JSON; paths into that
    folder may stand in the answer. Two processes asking for one entry make it once. Nothing is
    seen under the final name before it is complete. Raises `StorageError` when it cannot be kept.
    """
    key = digest_of(parts)
    home = _home(stage, subject)
    final = home / key[:32]
    with _writable(home):
        home.mkdir(parents=True, exist_ok=True)
    with _lock(home / f"{key[:32]}.lock"):
        outcome: Literal["miss", "off", "damaged"] = "miss"
        why = ""
        if not use:
            outcome, why = "off", "the cache was switched off"
        elif final.is_dir():
            found, problem = _read(final)
            if found is not None:
                return _hit(stage, subject, key, final, found)
            outcome, why = "damaged", problem
        if outcome == "miss":
            why = _why_missed(home, parts)
        answer = _make(home, final, parts, make)
        event = CacheEvent(stage=stage, subject=subject, outcome=outcome, key=key, why=why)
        return Cached(answer=answer, folder=str(final), event=event)


def lookup(stage: str, subject: str, parts: Mapping[str, str]) -> Cached | None:
    """The whole entry for `parts` if there is one; never makes anything."""
    key = digest_of(parts)
    final = _home(stage, subject) / key[:32]
    found = _read(final)[0] if final.is_dir() else None
    return _hit(stage, subject, key, final, found) if found is not None else None


def _home(stage: str, subject: str) -> Path:
    return cache_folder() / stage / re.sub(r"[^\w.-]+", "_", subject)[:80]


def _hit(stage: str, subject: str, key: str, folder: Path, answer: dict[str, Any]) -> Cached:
    event = CacheEvent(stage=stage, subject=subject, outcome="hit", key=key, why="same inputs")
    return Cached(answer=answer, folder=str(folder), event=event)


def _make(
    home: Path, final: Path, parts: Mapping[str, str], make: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    for stale in home.glob(f".{final.name}.*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    with _writable(home):
        folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=home))
    try:
        answer = _made(make, folder)
        with _writable(home):
            _seal(folder, parts, answer)
            if final.exists():
                shutil.rmtree(final)
            folder.rename(final)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    found, problem = _read(final)
    if found is None:
        msg = f"the cache entry {final} does not read back: {problem}"
        raise StorageError(msg, hint="Check the disk that holds it.")
    return found


def _made(make: Callable[[Path], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """`make`'s answer; what it could not read stays its own error, a full disk is not."""
    try:
        return make(folder)
    except OSError as err:
        if err.errno in _DISK or str(folder) in str(err.filename):
            raise storage_error(err, folder) from err
        raise


def _seal(folder: Path, parts: Mapping[str, str], answer: dict[str, Any]) -> None:
    files = {
        str(path.relative_to(folder)): [path.stat().st_size, file_sha256(path, memo=False)]
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps(answer).replace(json.dumps(str(folder))[1:-1], _HERE_TOKEN)
    entry = {"parts": dict(parts), "files": files, "answer": text}
    body = json.dumps(entry)
    sealed = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "entry": body})
    (folder / "entry.json").write_text(sealed, encoding="utf-8")


def _read(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """The answer of an entry whose every byte is as it was written, or None and what is wrong."""
    try:
        sealed = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        body = sealed["entry"]
        if hashlib.sha256(body.encode()).hexdigest() != sealed["sha256"]:
            return None, "its record was changed"
        entry = json.loads(body)
        for name, (size, sha256) in entry["files"].items():
            path = folder / name
            if path.stat().st_size != size or file_sha256(path, memo=False) != sha256:
                return None, f"{name} was changed or cut"
        text = entry["answer"].replace(_HERE_TOKEN, json.dumps(str(folder))[1:-1])
        answer: dict[str, Any] = json.loads(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        return None, f"it is incomplete ({type(err).__name__}: {err})"
    return answer, ""


def _why_missed(home: Path, parts: Mapping[str, str]) -> str:
    """What differs from the latest entry of the same subject."""
    entries = [p for p in home.glob("*/entry.json") if not p.parent.name.startswith(".")]
    if not entries:
        return "nothing was kept for it yet"
    try:
        latest = max(entries, key=lambda p: p.stat().st_mtime_ns)
        before = json.loads(json.loads(latest.read_text(encoding="utf-8"))["entry"])["parts"]
    except (OSError, ValueError, KeyError, TypeError):
        return "the latest entry is unreadable"
    changed = [
        f"{name}: {_short(before.get(name))} -> {_short(parts.get(name))}"
        for name in sorted({*before, *parts})
        if before.get(name) != parts.get(name)
    ]
    return "changed since the latest entry: " + "; ".join(changed)


def _short(value: str | None) -> str:
    if value is None:
        return "(absent)"
    return value if len(value) <= 40 else value[:12] + "…"


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with _writable(path):
            file = stack.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turn the system's refusals below `path` into a `StorageError` with a remedy."""
    try:
        yield
    except OSError as err:
        raise storage_error(err, path) from err


def storage_error(err: OSError, path: Path) -> StorageError:
    """What the system's refusal of a file means to a user."""
    where = f"{err.filename or path}: {err.strerror or err}"
    if err.errno in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}:
        msg = f"cannot use {where}"
        return StorageError(msg, hint="Was it moved or removed while it was needed?")
    msg = f"cannot write {where}"
    return StorageError(msg, hint=STORAGE_HINT)
