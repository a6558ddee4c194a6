"""Timing caches: what was timed on which GPU by which version, kept between builds."""

from __future__ import annotations

import json
from typing import Any

from tensorrt.host import VERSION, gpu
from tensorrt.memory import IHostMemory
from tensorrt.strict import Bound

MAGIC = b"TRTSTANDIN-TIMING1\n"


class ITimingCache(Bound):
    """Keys of what was timed; the stand-in times nothing, so there are no times in it."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    @property
    def _keys(self) -> list[str]:
        return self._state["keys"]

    def serialize(self) -> IHostMemory:
        return IHostMemory(MAGIC + json.dumps(self._state, sort_keys=True).encode())

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and input_cache.device != self.device:
            return False
        self._keys.extend(key for key in input_cache._keys if key not in self._keys)
        return True

    def reset(self) -> bool:
        self._keys.clear()
        return True

    @property
    def device(self) -> tuple[str, str]:
        return self._state["gpu"], self._state["version"]


def fresh() -> dict[str, Any]:
    """The state of an empty cache for the GPU that is here."""
    here = gpu() or {"name": "", "compute_capability": ""}
    return {
        "gpu": f"{here['name']} {here['compute_capability']}",
        "version": VERSION,
        "keys": [],
    }


def opened(data: bytes) -> ITimingCache | None:
    """A cache from its bytes, an empty one from none; None where they are not a cache."""
    if not data:
        return ITimingCache(fresh())
    if not data.startswith(MAGIC):
        return None
    return ITimingCache(json.loads(data[len(MAGIC) :].decode()))
