"""What one session keeps over there while it lasts, and the end of what others left behind.

Standard library only, Python 3.8 and later; sent along with far.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from typing import Any, Dict, Iterable, List, Optional

PR_SET_CHILD_SUBREAPER = 36
# How long what was told to end may take before it is killed, and how long that may take.
LEAVE_S = 3.0
POLL_S = 0.02


class Session:
    """A folder of this session's own; its lock tells that the session lives.

    `token` is the name of the one who asked: it knows which of its sessions lost their link.
    """

    def __init__(self, root: str, token: str) -> None:
        home = os.path.join(root, "sessions")
        os.makedirs(home, exist_ok=True)
        making = tempfile.mkdtemp(prefix=".", dir=home)
        self.record: Dict[str, Any] = {"pid": os.getpid(), "token": token}
        self.number = os.open(os.path.join(making, "session.json"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.number, fcntl.LOCK_EX)
        self._keep()
        self.folder = os.path.join(home, os.path.basename(making)[1:])
        os.rename(making, self.folder)
        self.work = os.path.join(self.folder, "work")
        os.mkdir(self.work)

    def serves(self, pid: int) -> None:
        """Note the process to be ended where we are killed ourselves."""
        self.record.update(child=pid, child_start=start_of(pid))
        self._keep()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.number)

    def _keep(self) -> None:
        os.pwrite(self.number, json.dumps(self.record).encode() + b"\n", 0)


def sweep(root: str, dead: Iterable[str] = ()) -> None:
    """End and remove the sessions whose process was killed, or whose token is among the dead."""
    home = os.path.join(root, "sessions")
    for name in os.listdir(home) if os.path.isdir(home) else []:
        folder = os.path.join(home, name)
        if name.startswith("."):  # one that is just being made, or was never finished
            if time.time() - os.lstat(folder).st_mtime > 86400:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            number = os.open(os.path.join(folder, "session.json"), os.O_RDWR)
        except OSError:  # it went away meanwhile, or was cut in half
            if not os.path.exists(os.path.join(folder, "session.json")):
                shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            _sweep_one(folder, number, tuple(dead))
        finally:
            os.close(number)


def _sweep_one(folder: str, number: int, dead: Iterable[str]) -> None:
    try:
        record = json.loads(os.pread(number, 4096, 0).decode())
    except ValueError:
        record = {}
    if not locked(number):
        pid = record.get("pid")
        if record.get("token") not in dead or not isinstance(pid, int):
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            kill(pid, how)
            if locked(number, LEAVE_S):
                break
        else:
            return
    child = record.get("child")
    if isinstance(child, int) and start_of(child) == record.get("child_start"):
        end_tree(child)
    shutil.rmtree(folder, ignore_errors=True)


def locked(number: int, within_s: float = 0.0) -> bool:
    """Whether the lock of an open file could be had within that time."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(POLL_S)


def _stat(pid: int) -> List[str]:
    """The fields of a process behind its name; none where there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def start_of(pid: int) -> Optional[str]:
    """When a process started, in the kernel's own count: a number taken again has another."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None


def below(pid: int) -> List[int]:
    """Living processes started below `pid`. Not every kernel lists children: all are looked at."""
    children: Dict[str, List[int]] = {}
    living = set()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        fields = _stat(int(name)) if name.isdigit() else []
        if len(fields) > 1:
            children.setdefault(fields[1], []).append(int(name))
            if fields[0] != "Z":
                living.add(int(name))
    found: List[int] = []
    queue = [pid]
    while queue:
        # below a dead one too: it keeps its children for as long as one of its threads is ending
        more = children.get(str(queue.pop()), [])
        found += [each for each in more if each in living]
        queue += more
    return found


def end_tree(pid: int) -> None:
    """Kill a process that leads a group, its group, and all below it."""
    for each in below(pid):
        kill(each)
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        kill(pid)


def end_children(leader: int) -> None:
    """Kill all below this process, again until nothing is there: what is killed may just fork."""
    nothing = 0
    for _ in range(100):
        with contextlib.suppress(OSError):  # no such group any more
            os.killpg(leader, signal.SIGKILL)
        found = below(os.getpid())
        for each in found:
            kill(each)
        reap()
        # one that changes its parent while all are looked at is seen the next time
        nothing = 0 if found else nothing + 1
        if nothing == 2:
            return
        time.sleep(POLL_S if found else 0)


def reap() -> Dict[int, int]:
    """Exit status of each child that ended, by pid."""
    ended: Dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a process a signal, unless it has ended meanwhile."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def adopt() -> None:
    """What a program's children leave behind becomes our child, and ends with us (Linux)."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        except (OSError, AttributeError):  # the group is ended all the same
            return
