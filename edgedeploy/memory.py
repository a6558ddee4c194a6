"""What memory a worker takes, with all that it started, and what it may take."""

import os

import psutil

from edgedeploy._inproc.serve import descendants
from edgedeploy.errors import InputError


def memory_limit_bytes() -> int:
    """What one worker may take: `EDGEDEPLOY_WORKER_MEMORY_BYTES`, else 90 % of what is free now."""
    named = os.environ.get("EDGEDEPLOY_WORKER_MEMORY_BYTES")
    if named is None:
        return int(psutil.virtual_memory().available * 0.9)
    if not named.isascii() or not named.isdigit() or int(named) == 0:
        msg = f"EDGEDEPLOY_WORKER_MEMORY_BYTES is {named!r}, expected a number of bytes"
        raise InputError(msg, hint="For 4 GB set it to 4000000000, or unset it.")
    return int(named)


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
