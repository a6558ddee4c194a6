# /// script
# requires-python = ">=3.8"
# dependencies = ["numpy>=1.20"]
#
# [tool.edgedeploy]
# modules = ["trt_common"]
# ///
"""Engines of TensorRT 10 and 11 on an NVIDIA GPU or a Jetson: inferences, timed here and there.

TensorRT's Python package comes with JetPack or from NVIDIA, cuda-python from the package index.
What is timed is one inference in a stream of its own until the host sees its end; `facts` and
`device_times` say whether copies are in it and what CUDA's events enclose.
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
program = use("tensorrt")
