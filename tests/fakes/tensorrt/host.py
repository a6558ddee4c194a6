"""Which major of TensorRT this stand-in is, and the GPU it stands on."""

from __future__ import annotations

import json
import os
from typing import Any

VERSIONS = {"10": "10.3.0+standin", "11": "11.4.0+standin"}
DEFAULTS: dict[str, Any] = {
    "name": "NVIDIA H200 (stand-in)",
    "compute_capability": "9.0",
    "memory_bytes": 150754820096,
    "free_bytes": None,  # memory_bytes where it is not told
    "driver": "580.95.05",
    "cuda": 13000,
    "clock_hz": 1980000000,
    "latency_s": 0.0,
    "sm_count": 132,
    "count": 1,  # so many alike
    "ecc": False,
    "integrated": False,  # a Jetson's, which shares the memory of its CPU
    "lean_library": True,  # libnvinfer_lean is installed: version-compatible engines hold it
}


def major() -> str:
    """The major that `TENSORRT_STANDIN_MAJOR` asks for, 10 without it."""
    found = os.environ.get("TENSORRT_STANDIN_MAJOR") or "10"
    if found not in VERSIONS:
        msg = f"TENSORRT_STANDIN_MAJOR is {found!r}; known: {sorted(VERSIONS)}"
        raise ImportError(msg)
    return found


MAJOR = major()
VERSION = VERSIONS[MAJOR]


def gpu() -> dict[str, Any] | None:
    """The GPU of `TENSORRT_STANDIN_GPU` (JSON over the defaults); None: no GPU and no driver."""
    text = os.environ.get("TENSORRT_STANDIN_GPU", "")
    if not text:
        return None
    told = json.loads(text)
    unknown = sorted(set(told) - set(DEFAULTS))
    if unknown:
        msg = f"TENSORRT_STANDIN_GPU: unknown {unknown}; known: {sorted(DEFAULTS)}"
        raise ValueError(msg)
    found = {**DEFAULTS, **told}
    if "stand-in" not in found["name"]:
        msg = f"TENSORRT_STANDIN_GPU: the name {found['name']!r} must say stand-in"
        raise ValueError(msg)
    if found["free_bytes"] is None:
        found["free_bytes"] = found["memory_bytes"]
    return found


def capability(text: str) -> tuple[int, int]:
    """Major and minor of a compute capability such as "8.7"."""
    whole, _, rest = text.partition(".")
    return int(whole), int(rest or 0)
