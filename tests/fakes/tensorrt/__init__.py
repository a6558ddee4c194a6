"""A stand-in for TensorRT 10 and 11: the calls of both, their refusals, and nothing computed."""

from __future__ import annotations

from typing import Any

from tensorrt import enums, runtime
from tensorrt.builder import BuilderOfMajor as Builder
from tensorrt.cache import ITimingCache
from tensorrt.config import IBuilderConfigOfMajor as IBuilderConfig
from tensorrt.enums import OLD, DataType
from tensorrt.host import VERSION as __version__
from tensorrt.log import ILogger, Logger
from tensorrt.memory import IHostMemory
from tensorrt.network import ILayer, INetworkDefinition, ITensor
from tensorrt.parser import OnnxParser, ParserError
from tensorrt.profile import IOptimizationProfile

BOTH = (
    *("BuilderFlag", "DataType", "DeviceType", "EngineCapability", "ErrorCode"),
    *("ExecutionContextAllocationStrategy", "HardwareCompatibilityLevel", "LayerType"),
    *("LayerInformationFormat", "MemoryPoolType", "NetworkDefinitionCreationFlag"),
    *("OnnxParserFlag", "PreviewFeature", "ProfilingVerbosity", "RuntimePlatform"),
    *("TensorFormat", "TensorIOMode", "TensorLocation"),
)
for _name in (*BOTH, "QuantizationFlag" if OLD else "TilingOptimizationLevel"):
    globals()[_name] = getattr(enums, _name)
float32, float16, bfloat16 = DataType.FLOAT, DataType.HALF, DataType.BF16
int64, int32, int8, uint8 = DataType.INT64, DataType.INT32, DataType.INT8, DataType.UINT8
bool, fp8, int4 = DataType.BOOL, DataType.FP8, DataType.INT4
NUMPY = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}
NUMPY["UINT8"] = "u1"
for _name in runtime.EXPORTS:
    globals()[_name] = getattr(runtime, _name)

__all__ = [
    "Builder",
    "IBuilderConfig",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "ITensor",
    "ITimingCache",
    "Logger",
    "OnnxParser",
    "ParserError",
    "__version__",
]


def volume(iterable: Any) -> int:
    """The product of sizes, 1 of none."""
    total = 1
    for size in iterable:
        total *= size
    return total


def nptype(trt_type: Any) -> Any:
    """numpy's type of a DataType; bfloat16 and FP8 have none."""
    import numpy as np

    if trt_type.name not in NUMPY:
        msg = "Could not resolve TensorRT datatype to an equivalent numpy datatype."
        raise TypeError(msg)
    return np.dtype(NUMPY[trt_type.name]).type


def init_libnvinfer_plugins(logger: Any, namespace: str) -> Any:
    """There are no plugins to register."""
    return isinstance(logger, ILogger) and isinstance(namespace, str)
