"""A stand-in for the runtime of TensorRT-RTX 1.7; its builder needs no GPU: the real one does."""

from typing import Any

import tensorrt
from cuda.standin.machine import machine
from tensorrt import runtime
from tensorrt.engine_file import NotAnEngine, read
from tensorrt.enums import LayerInformationFormat, TensorIOMode, TensorLocation, made
from tensorrt.host import gpu

__version__ = "1.7.1.116+standin"
DataType, ILogger, Logger = tensorrt.DataType, tensorrt.ILogger, tensorrt.Logger
IProfiler, EngineInspector = runtime.IProfiler, runtime.EngineInspector
EngineStat = runtime.EngineStat
CudaGraphStrategy = made("CudaGraphStrategy", "DISABLED", "WHOLE_GRAPH_CAPTURE")
DynamicShapesKernelSpecializationStrategy = made(
    "DynamicShapesKernelSpecializationStrategy", "LAZY", "EAGER", "NONE"
)
EngineValidity = made("EngineValidity", "VALID", "SUBOPTIMAL", "INVALID")
EngineInvalidityDiagnostics = made(
    "EngineInvalidityDiagnostics",
    *("VERSION_MISMATCH=1", "UNSUPPORTED_CC=2", "OLD_CUDA_DRIVER=4", "OLD_CUDA_RUNTIME=8"),
    *("INSUFFICIENT_GPU_MEMORY=16", "MALFORMED_ENGINE=32", "CUDA_ERROR=64"),
)
__all__ = [
    "CudaGraphStrategy",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineInspector",
    "EngineInvalidityDiagnostics",
    "EngineStat",
    "EngineValidity",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "IProfiler",
    "IRuntimeConfig",
    "LayerInformationFormat",
    "Logger",
    "Runtime",
    "TensorIOMode",
    "TensorLocation",
]


class IRuntimeConfig(runtime.IRuntimeConfig):
    """How contexts are to be made: graphs by the library, kernels for shapes."""

    def __init__(self) -> None:
        super().__init__()
        self._graphs = CudaGraphStrategy.DISABLED
        self._kernels = DynamicShapesKernelSpecializationStrategy.LAZY

    @property
    def cuda_graph_strategy(self) -> Any:
        return self._graphs

    @cuda_graph_strategy.setter
    def cuda_graph_strategy(self, value: Any) -> None:
        self._graphs = value

    @property
    def dynamic_shapes_kernel_specialization_strategy(self) -> Any:
        return self._kernels

    @dynamic_shapes_kernel_specialization_strategy.setter
    def dynamic_shapes_kernel_specialization_strategy(self, value: Any) -> None:
        machine.calls.append(("kernel_specialization", value.name))
        self._kernels = value


class IExecutionContext(runtime.IExecutionContext):
    """A context that can say whether a graph of it can be captured; it reports no layers."""

    _reports_layers = False

    def is_stream_capturable(self, stream: int) -> bool:
        return self._can_be_captured()


class ICudaEngine(runtime.ICudaEngine):
    """An engine for several compute capabilities."""

    _context = IExecutionContext
    _takes_config = True

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def get_engine_stat(self, stat: Any = EngineStat.TOTAL_WEIGHTS_SIZE) -> int:
        return self._header["weights_bytes"] if stat is EngineStat.TOTAL_WEIGHTS_SIZE else -1


class Runtime(runtime.Runtime):
    """Judges an engine before it reads it."""

    _version = __version__
    _engine = ICudaEngine

    def get_engine_validity(self, buffer: Any) -> tuple:
        """Whether the engine is for this library and card, and bits that say why it is not."""
        try:
            header, _ = read(bytes(buffer))
        except NotAnEngine:
            return EngineValidity.INVALID, 32
        wrong = 0
        if runtime.numbers(header["version"]) != runtime.numbers(self._version):
            wrong |= 1
        made_for = header["compute_capability"]
        made_for = [made_for] if isinstance(made_for, str) else made_for
        if gpu()["compute_capability"] not in made_for:
            wrong |= 2
        return (EngineValidity.INVALID if wrong else EngineValidity.VALID), wrong
