"""TensorRT or TensorRT-RTX as the bindings give it: versions, messages, an engine read back."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any

from trt_run_artifact import FLAVOURS
from trt_run_faults import (
    MEMORY,
    MEMORY_LOG,
    OTHER_HINT,
    BadInput,
    Failed,
    Missing,
    OutOfDeviceMemory,
    Unsupported,
    last,
    other_version,
    refused,
)

if TYPE_CHECKING:
    from types import ModuleType

    from trt_run_artifact import Artifact
    from trt_run_cuda import Card

    # objects of the bindings, which have no types
    Bound = Engine = Context = Any

REMEDIES = {
    "tensorrt": (
        "On a Jetson: `sudo apt install python3-libnvinfer`, and name that Python in"
        " EDGEDEPLOY_PYTHON_TRT or as `python` of the host in devices.toml; elsewhere install"
        " NVIDIA's package tensorrt into that environment."
    ),
    "tensorrt_rtx": "Install the package tensorrt-rtx into the environment of this program.",
}
# by the names of the library's DataType; what numpy has no type for cannot cross
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
KEPT_MESSAGES = 50


class Library:
    """One flavour's package, and what it logged as errors since `lines` was cleared."""

    def __init__(self, flavour: str) -> None:
        self.flavour, self.name = flavour, FLAVOURS[flavour]
        self.trt = package(flavour)
        self.version: str = self.trt.__version__
        self.virtual = "standin" in self.version.partition("+")[2]
        self.lines: list[str] = []
        self.logger = logger(self.trt, self.lines)
        self.runtime: Any = None

    def read(self, artifact: Artifact, card: Card) -> tuple[Any, list[str]]:
        """The engine on the current card, and notes; a refusal says what to do.

        Raises `BadInput` (another flavour, version or GPU, a damaged file), `OutOfDeviceMemory`.
        """
        if artifact.flavour != self.flavour:
            msg = f"the engine is {artifact.name}'s, this program runs those of {self.name}"
            raise BadInput(msg, f"Compile with {self.name}, or run with {artifact.name}.")
        self.lines.clear()
        if self.runtime is None:
            self.runtime = self._runtime()
        data = artifact.read()
        notes = self._judged(artifact, card, data)
        if artifact.version_compatible:
            self.runtime.engine_host_code_allowed = True
        engine = self.runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._refused(artifact, card)
        if artifact.capabilities and card.capability not in artifact.capabilities:
            listed = ", ".join(artifact.capabilities)
            notes.append(
                f"the engine was built for compute capability {listed}, this GPU has"
                f" {card.capability}: {self.name} took it"
            )
        return engine, notes

    def _runtime(self) -> Bound:
        try:
            return self.trt.Runtime(self.logger)
        except (TypeError, RuntimeError) as error:  # pybind11's, where the library made none
            msg = f"{self.name} {self.version} cannot start: {last(self.lines) or error}"
            raise Failed(msg, OTHER_HINT) from error

    def _judged(self, artifact: Artifact, card: Card, data: bytes) -> list[str]:
        """Refuse what is of another version, by the library's own judgement where it has one."""
        judge = getattr(self.runtime, "get_engine_validity", None)
        if judge is None:
            built, here = numbers(artifact.version), numbers(self.version)
            if built != here and not (artifact.version_compatible and built <= here):
                raise other_version(self.name, plain(artifact.version), plain(self.version))
            return []
        validity, bits = judge(data)
        told = diagnosed(self.trt, int(bits))
        if validity.name == "INVALID":
            self.lines.append(
                f"the engine is not valid here: {', '.join(told) or 'no reason told'}"
            )
            raise self._refused(artifact, card)
        return [f"{self.name} calls the engine {validity.name.lower()} here"] if told else []

    def _refused(self, artifact: Artifact, card: Card) -> Exception:
        return refused(
            list(self.lines),
            self.name,
            plain(artifact.version),
            plain(self.version),
            made_for=", ".join(artifact.capabilities) or "unknown",
            card=card.capability,
        )

    def close(self) -> None:
        """Let the library's runtime go, after all that was made of it."""
        self.runtime = None

    def context(self, engine: Engine) -> Context:
        """An execution context; raises `OutOfDeviceMemory` where its memory is not to be had."""
        self.lines.clear()
        kernels = getattr(self.trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is None:
            context = engine.create_execution_context()
        else:
            config = engine.create_runtime_config()
            # else kernels for a shape are compiled beside the first inferences, and change them
            config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
            context = engine.create_execution_context(config)
        if context is None:
            if MEMORY_LOG.search(" ".join(self.lines)):
                msg = f"making an execution context: {MEMORY[0]} ({last(self.lines, 1)})"
                raise OutOfDeviceMemory(msg, MEMORY[1])
            msg = f"{self.name} makes no execution context: {last(self.lines)}"
            raise Failed(msg, OTHER_HINT)
        return context

    def tensors(self, engine: Engine) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and outputs by name, in the engine's order. Raises `Unsupported`."""
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for place in range(engine.num_io_tensors):
            name = engine.get_tensor_name(place)
            is_input = engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
            kind = engine.get_tensor_dtype(name).name
            if kind not in DTYPES:
                msg = f"tensor {name!r} is {kind}, which numpy has no type for"
                raise Unsupported(msg, "Compile it with float32 inputs and outputs.")
            if engine.get_tensor_location(name) == self.trt.TensorLocation.HOST:
                msg = f"tensor {name!r} is a shape that the engine reads on the host"
                raise Unsupported(msg, "Make it a constant of the model.")
            tensor = Tensor(name, DTYPES[kind], tuple(engine.get_tensor_shape(name)))
            if is_input and -1 in tensor.shape:
                bounds = engine.get_tensor_profile_shape(name, 0)
                tensor.profile = [tuple(shape) for shape in bounds]
            found[0 if is_input else 1][name] = tensor
        return found

    def operators(self, engine: Engine) -> dict[str, str]:
        """Kinds of the engine's layers by name, as much as it was built to tell."""
        text = engine.create_engine_inspector().get_engine_information(
            self.trt.LayerInformationFormat.JSON
        )
        try:
            told = json.loads(text).get("Layers", [])
        except ValueError:
            return {}
        return {
            layer["Name"]: str(layer.get("LayerType", ""))
            for layer in told
            if isinstance(layer, dict) and "Name" in layer
        }

    def memory(self, engine: Engine) -> dict[str, int]:
        """Device memory of one context's activations, and of the weights where it is told."""
        size = getattr(engine, "device_memory_size_v2", None)
        if size is None:
            size = engine.device_memory_size
        found = {"device_activations": int(size)}
        if hasattr(engine, "get_engine_stat"):
            weights = int(engine.get_engine_stat(self.trt.EngineStat.TOTAL_WEIGHTS_SIZE))
            if weights >= 0:
                found["device_weights"] = weights
        return found


class Tensor:
    """An input or output: -1 stands for a free size, which an input's profile bounds."""

    def __init__(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.profile: list[tuple[int, ...]] = []

    def described(self) -> dict[str, Any]:
        """As `load` answers it; a free size is a name."""
        shape = [
            size if size >= 0 else f"{self.name}_{axis}" for axis, size in enumerate(self.shape)
        ]
        return {"name": self.name, "dtype": self.dtype, "shape": shape}


def package(flavour: str) -> ModuleType:
    """The bindings; raises `Missing`."""
    try:
        return importlib.import_module(flavour)
    except (ImportError, OSError) as error:
        msg = f"{FLAVOURS[flavour]}'s package {flavour} cannot be imported: {error}"
        raise Missing(msg, REMEDIES[flavour]) from error


def logger(trt: ModuleType, lines: list[str]) -> Bound:
    """A logger of the library's that prints all but chatter, and keeps errors in `lines`."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Bound, msg: str) -> None:
            if severity.name in {"INTERNAL_ERROR", "ERROR", "WARNING"}:
                print(f"[{severity.name}] {msg}")
            if severity.name in {"INTERNAL_ERROR", "ERROR"}:
                lines.append(msg)
                del lines[:-KEPT_MESSAGES]

    return Log()


def diagnosed(trt: ModuleType, bits: int) -> list[str]:
    """The names of what is wrong with an engine."""
    kinds = trt.EngineInvalidityDiagnostics.__members__
    return [name for name, kind in kinds.items() if bits & int(kind)]


def plain(version: str) -> str:
    """A version without its local part."""
    return version.partition("+")[0]


def numbers(version: str) -> tuple[int, ...]:
    """The three numbers that a version begins with: engines are of one of these."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in match.groups()) if match else ()
