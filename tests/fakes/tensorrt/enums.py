"""The enumerations of the bindings, as each major has them."""

from __future__ import annotations

import enum
from typing import Any

from tensorrt.host import MAJOR

OLD = MAJOR == "10"


class Named(enum.EnumMeta):
    """Tells a missing member as pybind11 does."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or name not in cls.__members__:
            msg = f"type object 'tensorrt.tensorrt.{cls.__name__}' has no attribute '{name}'"
            raise AttributeError(msg)
        return cls.__members__[name]


class Enumeration(enum.Enum, metaclass=Named):
    """Like pybind11's: it has a number, and is none."""

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)


def made(name: str, *members: str, start: int = 0) -> Any:
    """An enumeration of these members, numbered in order; `name=7` numbers one itself."""
    numbered, count = {}, start
    for member in members:
        label, _, given = member.partition("=")
        count = int(given) if given else count
        numbered[label] = count
        count += 1
    return Enumeration(name, numbered, module="tensorrt.tensorrt")


FLAGS_10 = (
    *("FP16", "INT8", "DEBUG", "GPU_FALLBACK", "REFIT", "DISABLE_TIMING_CACHE", "TF32"),
    *("SPARSE_WEIGHTS", "SAFETY_SCOPE", "OBEY_PRECISION_CONSTRAINTS"),
    *("PREFER_PRECISION_CONSTRAINTS", "DIRECT_IO", "VERSION_COMPATIBLE=13"),
    *("EXCLUDE_LEAN_RUNTIME", "FP8", "ERROR_ON_TIMING_CACHE_MISS", "BF16"),
    *("DISABLE_COMPILATION_CACHE", "STRIP_PLAN", "REFIT_IDENTICAL", "WEIGHT_STREAMING", "INT4"),
    "REFIT_INDIVIDUAL",
)
FLAGS_11 = (
    *("DEBUG=2", "GPU_FALLBACK", "REFIT", "DISABLE_TIMING_CACHE", "TF32", "SPARSE_WEIGHTS"),
    *("SAFETY_SCOPE", "DIRECT_IO=11", "VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"),
    *("ERROR_ON_TIMING_CACHE_MISS=15", "DISABLE_COMPILATION_CACHE=17", "STRIP_PLAN"),
    *("REFIT_IDENTICAL", "WEIGHT_STREAMING", "REFIT_INDIVIDUAL=22", "STRICT_NANS"),
    *("MONITOR_MEMORY", "EDITABLE_TIMING_CACHE=26", "DISTRIBUTIVE_INDEPENDENCE"),
)
BuilderFlag = made("BuilderFlag", *(FLAGS_10 if OLD else FLAGS_11))
NetworkDefinitionCreationFlag = made(
    "NetworkDefinitionCreationFlag",
    *(
        ("EXPLICIT_BATCH", "STRONGLY_TYPED")
        if OLD
        else ("STRONGLY_TYPED", "PREFER_AOT_PYTHON_PLUGINS", "PREFER_JIT_PYTHON_PLUGINS")
    ),
)
HardwareCompatibilityLevel = made(
    "HardwareCompatibilityLevel",
    "NONE",
    "AMPERE_PLUS",
    *(() if OLD else ("SAME_COMPUTE_CAPABILITY",)),
)
DataType = made(
    "DataType",
    *("FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64", "INT4"),
    *(() if OLD else ("FP4", "E8M0")),
)
MemoryPoolType = made(
    "MemoryPoolType",
    *("WORKSPACE", "DLA_MANAGED_SRAM", "DLA_LOCAL_DRAM", "DLA_GLOBAL_DRAM", "TACTIC_DRAM"),
    "TACTIC_SHARED_MEMORY",
)
PreviewFeature = made(
    "PreviewFeature",
    *(("PROFILE_SHARING_0806",) if OLD else ()),
    "ALIASED_PLUGIN_IO_10_03=1",
    *(() if OLD else ("RUNTIME_ACTIVATION_RESIZE_10_10",)),
)
ProfilingVerbosity = made("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
EngineCapability = made("EngineCapability", "STANDARD", "SAFETY", "DLA_STANDALONE")
DeviceType = made("DeviceType", "GPU", "DLA")
RuntimePlatform = made("RuntimePlatform", "SAME_AS_BUILD", "WINDOWS_AMD64")
TensorIOMode = made("TensorIOMode", "NONE", "INPUT", "OUTPUT")
TensorLocation = made("TensorLocation", "DEVICE", "HOST")
TensorFormat = made(
    "TensorFormat",
    *("LINEAR", "CHW2", "HWC8", "CHW4", "CHW16", "CHW32", "DHWC8", "CDHW32", "HWC"),
    *("DLA_LINEAR", "DLA_HWC4", "HWC16", "DHWC"),
)
LayerInformationFormat = made("LayerInformationFormat", "ONELINE", "JSON")
ExecutionContextAllocationStrategy = made(
    "ExecutionContextAllocationStrategy", "STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"
)
TilingOptimizationLevel = made("TilingOptimizationLevel", "NONE", "FAST", "MODERATE", "FULL")
QuantizationFlag = made("QuantizationFlag", "CALIBRATE_BEFORE_FUSION")
OnnxParserFlag = made("OnnxParserFlag", "NATIVE_INSTANCENORM")
ErrorCode = made(
    "ErrorCode",
    *("SUCCESS", "INTERNAL_ERROR", "MEM_ALLOC_FAILED", "MODEL_DESERIALIZE_FAILED"),
    *("INVALID_VALUE", "INVALID_GRAPH", "INVALID_NODE", "UNSUPPORTED_GRAPH", "UNSUPPORTED_NODE"),
    *("UNSUPPORTED_NODE_ATTR", "UNSUPPORTED_NODE_INPUT", "UNSUPPORTED_NODE_DATATYPE"),
    *("UNSUPPORTED_NODE_DYNAMIC", "UNSUPPORTED_NODE_SHAPE", "REFIT_FAILED"),
)
LayerType = made(
    "LayerType",
    *("CONVOLUTION", "GRID_SAMPLE", "NMS", "ACTIVATION", "POOLING", "LRN", "SCALE", "SOFTMAX"),
    *("DECONVOLUTION", "CONCATENATION", "ELEMENTWISE", "PLUGIN", "UNARY", "PADDING", "SHUFFLE"),
    *("REDUCE", "TOPK", "GATHER", "MATRIX_MULTIPLY", "RAGGED_SOFTMAX", "CONSTANT", "IDENTITY"),
    *("CAST", "PLUGIN_V2", "SLICE", "SHAPE", "PARAMETRIC_RELU", "RESIZE", "TRIP_LIMIT"),
    *("RECURRENCE", "ITERATOR", "LOOP_OUTPUT", "SELECT", "FILL", "QUANTIZE", "DEQUANTIZE"),
    *("CONDITION", "CONDITIONAL_INPUT", "CONDITIONAL_OUTPUT", "SCATTER", "EINSUM", "ASSERTION"),
    *("ONE_HOT", "NON_ZERO", "REVERSE_SEQUENCE", "NORMALIZATION", "PLUGIN_V3"),
)
BYTES = {"FLOAT": 4, "HALF": 2, "INT32": 4, "BF16": 2, "INT64": 8, "INT4": 0.5, "FP4": 0.5}


def itemsize(dtype: Any) -> float:
    """Bytes of one element of a DataType."""
    return BYTES.get(dtype.name, 1)


DataType.itemsize = property(itemsize)
