"""A child process with all that it started: what memory they take, and their end."""

import contextlib
import os
import signal
from pathlib import Path
from subprocess import Popen

import psutil


def descendants(pid: int) -> list[int]:
    """Processes started below `pid`, where Linux lists them; all of /proc would be slow to read."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, listed.read_text(encoding="ascii").split()):
                found += [child, *descendants(child)]
    return found


def memory_bytes(pid: int) -> int:
    """Resident bytes of a process and all below it; 0 where it is gone.

    What a fork shares with its parent would count twice: with children, the proportional size is
    taken where the system tells it.
    """
    children = descendants(pid)
    return sum(_resident(each, shared=bool(children)) for each in (pid, *children))


def _resident(pid: int, *, shared: bool) -> int:
    try:
        process = psutil.Process(pid)
        if shared:
            return int(getattr(process.memory_full_info(), "pss", process.memory_info().rss))
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def kill_all(process: Popen[bytes]) -> None:
    """End a process that leads a group, the rest of its group, and what left the group."""
    strays = descendants(process.pid) if process.poll() is None else []
    for end, pid in ((os.killpg, process.pid), *((os.kill, stray) for stray in strays)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
    process.wait()
