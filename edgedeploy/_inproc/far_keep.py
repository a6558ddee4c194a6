"""Keep a device for one run, and files over there by their hash: sent once, checked at each use.

Standard library only, Python 3.8 and later; sent along with far.py.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Set

from edgedeploy._inproc.far import BLOCK, Gone, write
from edgedeploy._inproc.far_lock import Lock, NotThere, Refused, lock, owner, same_file, unlock
from edgedeploy._inproc.far_session import Session, locked, sweep

if TYPE_CHECKING:
    from edgedeploy._inproc.far import Source

UNUSED_S = 14 * 86400
# Kept free beside what is sent: a full disk would stop more than us.
SPARE_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


class Damaged(Refused):
    """Another hash than was said."""

    kind = "damaged"


class Out:
    """Answers, and a sign of life between them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lock = threading.Lock()

    def answer(self, answer: Dict[str, Any]) -> None:
        self.line({"answer": answer})

    def line(self, message: Dict[str, Any]) -> None:
        with self.lock:
            write(json.dumps(message).encode() + b"\n")
        self.source.alive()

    def chunks(self, blocks: Iterator[bytes]) -> None:
        """Counted bytes, as `Source.chunks` reads them."""
        with self.lock:
            try:
                for block in blocks:
                    write(b"%d\n" % len(block) + block)
                    self.source.alive()
            finally:
                write(b"0\n")

    def beat(self, every_s: float) -> None:
        """Say now and then that we are there, also while something takes its time."""
        while True:
            time.sleep(every_s)
            with self.lock:
                try:
                    write(b"\n")
                except Gone:  # the main thread finds that out
                    return


def keep(order: Dict[str, Any], source: Source) -> None:
    """Answer requests until the other end is gone; what is locked is free again then."""
    out = Out(source)
    keeper = Keeper(order, source, out)
    beat = threading.Thread(target=out.beat, args=(order["beat_s"],), daemon=True)
    out.answer({"folder": keeper.root})
    beat.start()
    try:
        while True:
            request = json.loads(source.line().decode())
            try:
                out.answer(getattr(keeper, "do_" + request["call"])(**request["arguments"]))
            except (OSError, Refused) as err:
                out.line({"error": keeper.told(err)})
    finally:
        keeper.close()


class Keeper:
    """The files and locks of one run on this host."""

    def __init__(self, order: Dict[str, Any], source: Source, out: Out) -> None:
        self.source, self.out = source, out
        self.root = os.path.realpath(os.path.expanduser(order["folder"]))
        self.token: str = order["token"]
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for name in ("store", "part", "trees"):
            os.makedirs(os.path.join(self.root, name), exist_ok=True)
        self.dead = tuple(order["dead"])
        sweep(self.root, self.dead)
        self.session = Session(self.root, self.token)
        self.locks: List[Lock] = []
        self.exchanges = 0
        prune(self.root)

    def close(self) -> None:
        for held in self.locks:
            unlock(held)
        self.session.close()

    def told(self, err: Exception) -> Dict[str, Any]:
        """An exception as it crosses the link."""
        if isinstance(err, Refused):
            return {"type": "", "kind": err.kind, "message": err.message, "hint": err.hint}
        assert isinstance(err, OSError)
        message = "%s: %s" % (err.filename or self.root, err.strerror or err)
        if err.errno in FULL:
            message += "; %s bytes are free" % format(free_bytes(self.root), ",")
        trace = traceback.format_exc()
        return {"type": "", "kind": "storage", "message": message, "hint": "", "traceback": trace}

    def do_lock(
        self, names: Sequence[str], ports: Sequence[str], asker: str, wait_s: float
    ) -> Dict[str, Any]:
        """Keep others, of any user, from what is named; `NotThere` says who has it."""
        for name in names:
            self.locks.append(lock("device", name, owner(asker, self.token), wait_s))
        for port in ports:  # as runs on this host itself lock it
            if "://" not in port and not os.path.exists(port):
                raise NotThere("there is no serial port %s over there" % port)
            real = port if "://" in port else os.path.realpath(port)
            self.locks.append(lock("port", real, "%d\n" % os.getpid(), wait_s))
        return {}

    def do_tree(self, files: List[List[Any]], strict: bool) -> Dict[str, Any]:
        """Lay files (relative path, sha256, size) into a folder of their own, from the store.

        Answers its path, or which of them are `missing` in the store. Each byte is checked. With
        `strict` nothing else stays in that folder.
        """
        text = json.dumps(sorted(files)) + str(strict)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        root = os.path.join(self.root, "trees", name)
        missing: List[List[Any]] = []
        there: Set[str] = set()
        for relative, sha256, size in files:
            parts = relative.split("/")
            if not all(parts) or ".." in parts or "." in parts:
                raise Refused("%r is no path below a folder" % relative)
            path = os.path.join(root, *parts)
            there.add(path)
            if self.whole(path, sha256, size):
                continue
            kept = os.path.join(self.root, "store", sha256)
            if self.whole(kept, sha256, size):
                place(kept, path)
            elif [sha256, size] not in missing:
                missing.append([sha256, size])
        if missing:
            return {"missing": missing}
        for at, _, names in os.walk(root) if strict else ():
            for each in names:
                if os.path.join(at, each) not in there:
                    os.unlink(os.path.join(at, each))
        os.utime(root)
        return {"path": root}

    def whole(self, path: str, sha256: str, size: int) -> bool:
        """Whether the file has these very bytes; one of others is removed."""
        try:
            if os.lstat(path).st_size == size and self.sha256(path) == sha256:
                os.utime(path)
                return True
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return False  # it was never sent
        return False

    def sha256(self, path: str) -> str:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
                self.source.alive()
        return digest.hexdigest()

    def do_upload(self, sha256: str, size: int) -> Dict[str, Any]:
        """Take a file into the store, on from what was sent before; it answers twice.

        First from which byte on it is wanted; once those came, how many did.
        """
        part, number = self._part(sha256)
        try:
            digest, offset = self._so_far(number, size)
            free = free_bytes(self.root)
            if free < size - offset + SPARE_BYTES:
                if not offset:
                    os.unlink(part)
                message = "%s: needs %s bytes, %s are free" % (
                    part,
                    format(size - offset + SPARE_BYTES, ","),
                    format(free, ","),
                )
                raise Refused(message)
            self.out.answer({"from": offset})
            count = self._fill(part, number, digest, size - offset)
            if count < size - offset or digest.hexdigest() != sha256:
                os.unlink(part)
                raise Damaged("%s has other bytes than those of its hash" % part)
            os.fchmod(number, 0o444)
            os.rename(part, os.path.join(self.root, "store", sha256))
            return {"count": count}
        finally:
            os.close(number)

    def _part(self, sha256: str) -> "tuple[str, int]":
        """The file to be filled, ours alone: another run may be sending the same."""
        for name in (sha256, "%s.%d" % (sha256, os.getpid())):
            path = os.path.join(self.root, "part", name)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if locked(number) and same_file(number, path):
                return path, number
            os.close(number)
        raise Refused("%s is being written by another run" % path)

    def _so_far(self, number: int, size: int) -> "tuple[hashlib._Hash, int]":
        digest, offset = hashlib.sha256(), 0
        if os.fstat(number).st_size > size:
            os.ftruncate(number, 0)
        while True:
            block = os.pread(number, BLOCK, offset)
            if not block:
                return digest, offset
            digest.update(block)
            offset += len(block)
            self.source.alive()

    def _fill(self, part: str, number: int, digest: "hashlib._Hash", wanted: int) -> int:
        """Append what comes; where it cannot be written, say so at once and pass the rest over."""
        written = 0
        os.lseek(number, 0, os.SEEK_END)
        blocks = self.source.chunks()
        try:
            for block in blocks:
                digest.update(block)
                view = memoryview(block)
                while view:
                    done = os.write(number, view)
                    written += done
                    view = view[done:]
        except OSError as err:
            free = free_bytes(self.root)
            os.ftruncate(number, 0)
            os.unlink(part)
            text = "%s: %s: needs %s bytes more, %s are free" % (
                part,
                err.strerror,
                format(wanted - written, ","),
                format(free, ","),
            )
            # the other end stops at this answer; what it had sent by then is still to come
            self.out.answer({"stop": True})
            for _ in blocks:
                continue
            raise Refused(text) from None
        return written

    def do_exchange(self, sha256: str, given: str, wanted: str) -> Dict[str, Any]:
        """A folder for one call: the file `given`, out of the store, and a place for `wanted`."""
        self.exchanges += 1
        folder = os.path.join(self.session.work, str(self.exchanges))
        paths = [os.path.join(folder, kind) for kind in ("given", "wanted")]
        for path in paths:
            os.makedirs(path)
        source = os.path.join(paths[0], given)
        os.rename(os.path.join(self.root, "store", sha256), source)
        target = os.path.join(paths[1], wanted) if wanted else ""
        return {"folder": folder, "given": source, "wanted": target}

    def do_download(self, path: str) -> Dict[str, Any]:
        """Send a file: its size first, then counted bytes, then the hash of them."""
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            self.out.answer({"size": os.fstat(file.fileno()).st_size})

            def blocks() -> Iterator[bytes]:
                for block in iter(lambda: file.read(BLOCK), b""):
                    digest.update(block)
                    yield block

            self.out.chunks(blocks())
        return {"sha256": digest.hexdigest()}

    def do_drop(self, folder: str) -> Dict[str, Any]:
        """Remove the folder of one call."""
        if os.path.dirname(folder) == self.session.work:
            shutil.rmtree(folder, ignore_errors=True)
        return {}


def free_bytes(path: str) -> int:
    """What this user may still write to the disk that holds `path`."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def place(kept: str, path: str) -> None:
    """Make `path` the file `kept`, at once: a link to it, or a copy where there are no links."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    making = "%s.%d.part" % (path, os.getpid())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(making)
    try:
        os.link(kept, making)
    except OSError:
        shutil.copyfile(kept, making)
    os.replace(making, path)


def prune(root: str, now: Optional[float] = None) -> None:
    """Remove what was not used for long, and what was never finished."""
    oldest = (time.time() if now is None else now) - UNUSED_S
    for kind in ("store", "part", "trees"):
        home = os.path.join(root, kind)
        for name in os.listdir(home):
            path = os.path.join(home, name)
            try:
                if os.lstat(path).st_mtime >= oldest:
                    continue
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)
            except OSError:  # another run did the same
                continue
