# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "tensorrt-rtx>=1.7,<1.8", "onnx>=1.17,<1.20", "numpy>=1.26", "cuda-bindings>=13,<14",
# ]
#
# [tool.edgedeploy]
# modules = ["trt_common"]
# ///
"""Engines of TensorRT-RTX on an RTX card: inferences, timed here and there.

Header and lock are those of the compiler of this name, so that the two share an environment.
The same as trt.py in all but the package. Its library compiles kernels for the card when a context
is made, so loading takes longer than with TensorRT, and no inference that is timed does.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().with_name("trt_common")))
from trt_run_faults import BadInput, Missing, Unsupported
from trt_run_functions import (
    beside,
    bind,
    bind_async,
    bind_beside,
    close,
    device_times,
    facts,
    layers,
    load,
    memory,
    probe,
    run,
    use,
)

__all__ = [
    "BadInput",
    "Missing",
    "Unsupported",
    "beside",
    "bind",
    "bind_async",
    "bind_beside",
    "close",
    "device_times",
    "facts",
    "layers",
    "load",
    "memory",
    "probe",
    "run",
]
program = use("tensorrt_rtx")
