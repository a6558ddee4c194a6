"""The runtime half: an engine read back, what it tells of itself, what it refuses to be."""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cuda.standin.machine import Fault, machine

from tensorrt.engine_file import NotAnEngine, read
from tensorrt.enums import (
    OLD,
    DataType,
    ExecutionContextAllocationStrategy,
    HardwareCompatibilityLevel,
    LayerInformationFormat,
    ProfilingVerbosity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    made,
)
from tensorrt.host import VERSION, capability, gpu
from tensorrt.log import emit
from tensorrt.runtime_context import NUMPY, IExecutionContext, IProfiler
from tensorrt.strict import Bound, need_driver

EngineStat = made("EngineStat", "TOTAL_WEIGHTS_SIZE", "STRIPPED_WEIGHTS_SIZE")
__all__ = ["EXPORTS", "EngineStat", "IProfiler", "IRuntimeConfig", "Runtime", "numbers"]
EXPORTS = (
    *("EngineInspector", "ICudaEngine", "IExecutionContext", "IProfiler", "Runtime"),
    *(() if OLD else ("EngineStat", "IRuntimeConfig")),
)


class EngineInspector(Bound):
    """What an engine tells of its layers, as much as it was built to tell."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:
        header = self._engine._header
        layers: list[Any] = []
        for layer in header["layers"]:
            told = {key: value for key, value in layer.items() if key != "nodes"}
            told["Metadata"] = "".join(f"[ONNX Layer: {name}]" for name in layer["nodes"])
            layers.append(told if header["profiling_verbosity"] == "DETAILED" else layer["Name"])
        if header["profiling_verbosity"] == "NONE":
            layers = []
        if format is not LayerInformationFormat.JSON:
            return "Layers:\n" + "\n".join(str(layer) for layer in layers)
        bindings = [tensor["name"] for tensor in (*header["inputs"], *header["outputs"])]
        return json.dumps({"Layers": layers, "Bindings": bindings})


class IRuntimeConfig(Bound):
    """How contexts are to be made."""

    def __init__(self) -> None:
        self._strategy = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._strategy


def computable(data: bytes) -> bytes:
    """A model that ONNX Runtime computes: it has next to no bfloat16, so that is rounded to.

    Where onnx is not installed, as beside a device, the model stays as it is.
    """
    if importlib.util.find_spec("onnx") is None:
        return data
    import onnx

    model = onnx.load_from_string(data)
    sys.path.append(str(Path(__file__).parents[3] / "profilers" / "runtime" / "onnx_kept"))
    from kept_widen import kinds_in, widen

    if onnx.TensorProto.BFLOAT16 not in kinds_in(model):
        return data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        widen(model, path)
    widened: bytes = model.SerializeToString()
    return widened


class ICudaEngine(Bound):
    """An engine on the device that was current when it was read."""

    _context = IExecutionContext
    _config = IRuntimeConfig
    _takes_config = not OLD

    def __init__(self, runtime: Any, header: dict[str, Any], model: bytes) -> None:
        self._runtime = runtime
        self._logger = runtime._logger
        self._header, self._model = header, model
        self._inputs = {tensor["name"]: tensor for tensor in header["inputs"]}
        self._outputs = {tensor["name"]: tensor for tensor in header["outputs"]}
        self._device = machine.current()
        self._session: Any = None
        self._known: dict[Any, dict[str, tuple[int, ...]]] = {}
        machine.take(header["weights_bytes"], self._device)
        self._generation = machine.taken

    def __del__(self) -> None:
        if self.__dict__.get("_generation") is machine.taken:
            machine.calls.append(("~ICudaEngine",))
            machine.give(self._header["weights_bytes"], self._device)

    def _compute(self, feed: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            # fusions of Q/DQ around 8-bit floats compute wrong numbers, or fail
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            self._session = onnxruntime.InferenceSession(
                computable(self._model), options, providers=["CPUExecutionProvider"]
            )
        names = list(self._outputs)
        values = self._session.run(names, feed)
        return {name: values[place] for place, name in enumerate(names)}

    def _output_shapes(self, shapes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs for shapes of the inputs, found by computing on zeros."""
        key = tuple(sorted(shapes.items()))
        if key not in self._known:
            feed = {
                name: np.zeros(shapes[name], NUMPY[tensor["dtype"]])
                for name, tensor in self._inputs.items()
            }
            self._known[key] = {name: v.shape for name, v in self._compute(feed).items()}
        return self._known[key]

    def create_execution_context(self, strategy: Any = None, **named: Any) -> Any:
        """A context; None, with the reason logged, where its memory is not to be had."""
        config = named.pop("runtime_config", None)
        told = strategy if strategy is not None else config
        if named or (isinstance(told, IRuntimeConfig) and not self._takes_config):
            msg = "create_execution_context(): incompatible function arguments."
            raise TypeError(msg)
        machine.calls.append(("create_execution_context",))
        try:
            machine.planned_fault("create_execution_context")
            return self._context(self)
        except Fault:
            need = self._header["device_memory_bytes"]
            emit(self._logger, "ERROR", f"[defaultAllocator.cpp] Requested size was {need} bytes.")
            text = "IExecutionContext creation: Error Code 2: OutOfMemory (no further information)"
            emit(self._logger, "ERROR", text)
            return None

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)

    @property
    def name(self) -> str:
        return self._header["name"]

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    @property
    def num_layers(self) -> int:
        return len(self._header["layers"])

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._header["profiles"])

    @property
    def device_memory_size_v2(self) -> int:
        return self._header["device_memory_bytes"]

    @property
    def hardware_compatibility_level(self) -> Any:
        return HardwareCompatibilityLevel[self._header["hardware_compatibility"]]

    @property
    def profiling_verbosity(self) -> Any:
        return ProfilingVerbosity[self._header["profiling_verbosity"]]

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple({**self._inputs, **self._outputs}[name]["shape"])

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[{**self._inputs, **self._outputs}[name]["dtype"]]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> Any:
        return TensorFormat.LINEAR

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        if name not in self._inputs:
            emit(self._logger, "ERROR", f"ICudaEngine::getProfileShape: {name} is no input")
            return []
        profile = self._header["profiles"][profile_index].get(name)
        shape = self._inputs[name]["shape"]
        return [tuple(profile[key] if profile else shape) for key in ("min", "opt", "max")]


if OLD:

    def device_memory_size(self: ICudaEngine) -> int:
        return self._header["device_memory_bytes"]

    ICudaEngine.device_memory_size = property(device_memory_size)
else:

    def get_engine_stat(self: ICudaEngine, stat: Any = EngineStat.TOTAL_WEIGHTS_SIZE) -> int:
        whole = stat is EngineStat.TOTAL_WEIGHTS_SIZE
        return self._header["weights_bytes"] if whole else -1

    def create_runtime_config(self: ICudaEngine) -> Any:
        return self._config()

    ICudaEngine.get_engine_stat = get_engine_stat
    ICudaEngine.create_runtime_config = create_runtime_config


def numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, without its local part."""
    return tuple(int(part) for part in version.partition("+")[0].split("."))


class Runtime(Bound):
    """Reads engines of its own version for the card that is there."""

    _version = VERSION
    _engine = ICudaEngine

    def __init__(self, logger: Any) -> None:
        need_driver(logger, gpu())
        self._logger = logger
        self._host_code = False

    def __del__(self) -> None:
        machine.calls.append(("~Runtime",))

    @property
    def logger(self) -> Any:
        return self._logger

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._host_code

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        self._host_code = value

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        """The engine; None, with the reason logged, where it is refused."""
        call = "IRuntime::deserializeCudaEngine: Error Code"
        try:
            header, model = read(bytes(serialized_engine))
        except NotAnEngine:
            return self._error(
                f"{call} 1: Serialization (Serialization assertion header.magicTag =="
                " kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with incompatible"
                " serialization version. Check that the engine was not created using safety"
                " runtime, same OS was used and version compatibility parameters were set"
                " accordingly.)"
            )
        reason = self._refusal(header)
        if reason:
            return self._error(f"{call} {reason}")
        try:
            machine.planned_fault("deserialize_cuda_engine")
            return self._engine(self, header, model)
        except Fault:
            return self._error(f"{call} 2: OutOfMemory (no further information)")

    def _error(self, text: str) -> None:
        emit(self._logger, "ERROR", text)

    def _refusal(self, header: dict[str, Any]) -> str:
        """Why the engine is not for this library and card; "" where it is."""
        built, here = numbers(header["version"]), numbers(self._version)
        flexible = header["version_compatible"]
        if built != here and not (flexible and built <= here):
            return (
                "6: API Usage Error (The engine plan file is not compatible with this version of"
                f" TensorRT, expecting library version {'.'.join(map(str, here))} got"
                f" {'.'.join(map(str, built))}, please rebuild.)"
            )
        if flexible and not self._host_code:
            return (
                "4: Internal Error (Cannot deserialize engine with lean runtime since"
                " IRuntime::getEngineHostCodeAllowed() is false. If you want to do this, set"
                " IRuntime::setEngineHostCodeAllowed() to true.)"
            )
        card, level = gpu()["compute_capability"], header["hardware_compatibility"]
        made_for = header["compute_capability"]
        made_for = [made_for] if isinstance(made_for, str) else made_for
        ampere = level == "AMPERE_PLUS" and capability(card) >= (8, 0)
        if card not in made_for and not ampere:
            return (
                "6: API Usage Error (The engine plan file is generated on an incompatible device,"
                f" expecting compute {card} got compute {', '.join(made_for)}, please rebuild.)"
            )
        return ""
