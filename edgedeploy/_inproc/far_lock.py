"""Locks that runs of every user of a host see, and who holds one.

Standard library only, Python 3.8 and later; sent along with far.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from typing import NamedTuple

from edgedeploy._inproc.far import read_text, user_name
from edgedeploy._inproc.far_session import POLL_S, locked

LOCKS = "/tmp"


class Refused(Exception):
    """What the one who asked is told; `kind` says which of its errors it is."""

    kind = "storage"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class NotThere(Refused):
    """A port that is not there, or a device that somebody else has."""

    kind = "missing"


def owner(asker: str, token: str) -> str:
    """What is left in the file of a lock for those who come to it in vain."""
    return json.dumps(
        {
            "user": user_name(os.getuid()),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "from": asker,
            "token": token,
        }
    )


class Lock(NamedTuple):
    """A lock held: its file and the descriptor that holds it."""

    path: str
    number: int


def lock(kind: str, name: str, text: str, wait_s: float) -> Lock:
    """Lock what is named, and leave `text` in the lock's file.

    Raises `NotThere`, with who has it, where that does not come about within `wait_s`.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    path = os.path.join(LOCKS, "edgedeploy-%s-%s.lock" % (kind, digest))
    deadline = time.monotonic() + wait_s
    while True:
        number = opened(path)
        if locked(number) and same_file(number, path):
            break
        holder = os.pread(number, 4096, 0).decode("utf-8", "replace").strip()
        os.close(number)
        if time.monotonic() > deadline:
            raise NotThere(in_use(holder), "Two runs would measure each other: wait for that one.")
        time.sleep(POLL_S)
    with contextlib.suppress(OSError):  # another user's file: locked all the same
        os.ftruncate(number, 0)
        os.pwrite(number, text.encode(), 0)
    return Lock(path, number)


def unlock(held: Lock) -> None:
    """Give a lock back."""
    with contextlib.suppress(OSError):  # another user's file
        os.ftruncate(held.number, 0)
        # who waits for this very file sees that it is not the one of that name any more; runs of
        # that host itself, which lock ports, do not look
        if os.path.basename(held.path).startswith("edgedeploy-device-"):
            os.unlink(held.path)
    os.close(held.number)


def opened(path: str) -> int:
    """A descriptor of a lock file, made for all users; never through a link somebody left.

    Raises `Refused` for what is there and is no file of that name alone.
    """
    more = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | more, 0o666)
        except FileExistsError:
            number = -1  # somebody's, opened below
        if number >= 0:
            os.fchmod(number, 0o666)
            return number
        writable = os.access(path, os.W_OK)
        try:
            number = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | more)
        except FileNotFoundError:  # whoever had it gave it back between
            continue
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
            return number
        os.close(number)
        raise Refused("%s is no lock, but something that somebody left there" % path)


def same_file(number: int, path: str) -> bool:
    """Whether `path` still is the open file: it may have been removed between."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    own = os.fstat(number)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def in_use(holder: str) -> str:
    """Who holds a lock, from what it left in the file."""
    try:
        record = json.loads(holder)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        told = {key: plain(record.get(key, "?")) for key in ("user", "pid", "since", "from")}
        return "it is in use by {user} (pid {pid}) since {since}, from {from}".format(**told)
    if isinstance(record, int):
        return "it is in use by pid %d%s" % (record, owner_of(record))
    return "it is in use"


def plain(value: object) -> str:
    """A value for people: anybody may have written it."""
    return "".join(letter for letter in str(value)[:80] if letter.isprintable())


def owner_of(pid: int) -> str:
    """Whose process that is, where the system tells."""
    for line in read_text("/proc/%d/status" % pid).splitlines():
        if line.startswith("Uid:"):
            return " of " + user_name(int(line.split()[1]))
    return ""
