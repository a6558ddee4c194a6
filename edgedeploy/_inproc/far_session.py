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
from typing import Any, Dict, Iterable, List

PR_SET_CHILD_SUBREAPER = 36
MARK = "EDGEDEPLOY_SESSION"
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

    def environment(self) -> Dict[str, str]:
        """That of what this session starts: it bears the session's mark, and so does all below."""
        return {**os.environ, MARK: self.folder}

    def end_all(self) -> None:
        """Kill what this session started, again until nothing is there: it may just be forking."""
        nothing = 0
        for _ in range(100):
            found = {*below(os.getpid()), *marked(self.folder)}
            for each in found:
                kill(each)
            reap()
            # one that changes its parent while all are looked at is seen the next time
            nothing = 0 if found else nothing + 1
            if nothing == 2:
                return
            time.sleep(POLL_S if found else 0)

    def guard(self) -> None:
        """Leave a process behind that ends what this session started, should it be killed itself.

        To be called before anything is started, or adopted.
        """
        ours, its = os.pipe()
        if os.fork():
            os.wait()
            os.close(ours)
            return
        # a grandchild: whoever looks below this session does not find it
        if os.fork():
            os._exit(0)
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.close(its)
        os.close(self.number)
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        os.read(ours, 1)
        end_marked(self.folder)
        os._exit(0)

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
    end_marked(folder)
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


def marked(folder: str) -> List[int]:
    """Living processes that bear the mark of the session in `folder`."""
    mark = ("%s=%s" % (MARK, folder)).encode()
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                if name.isdigit() and mark in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def end_marked(folder: str) -> None:
    """Kill what a session started, wherever it is now, until nothing of it is there."""
    for _ in range(100):
        found = marked(folder)
        if not found:
            return
        for each in found:
            kill(each)
        time.sleep(POLL_S)


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
