"""Read a TensorFlow Lite file as data: its tensors, operators, and weights in their order."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from edgedeploy.errors import InputError, nearest
from edgedeploy.workload import require_file

Array = npt.NDArray[Any]
T = TypeVar("T")

# numbers of the public schema (tensorflow/lite/schema/schema.fbs)
DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
KINDS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    9: "FULLY_CONNECTED",
    22: "RESHAPE",
    25: "SOFTMAX",
}
# from a kernel's axes there to PyTorch's: OHWI to OIHW, 1HWO to O1HW
KERNEL_AXES = {
    "CONV_2D": (0, 3, 1, 2),
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),
    "FULLY_CONNECTED": (0, 1),
}
# what reading past the end of a cut or damaged file raises
DAMAGE = (struct.error, IndexError, ValueError, TypeError, UnicodeDecodeError, OverflowError)


@dataclass(frozen=True)
class Quantization:
    """real = scale (stored - zero_point); one value, or one a slice of `axis`."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int


@dataclass(frozen=True)
class Tensor:
    """One tensor; `stored` is its constant as the file holds it, None where it is computed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: Array | None
    quantization: Quantization | None

    def real(self) -> npt.NDArray[np.float32]:
        """The constant as float32, dequantized; `InputError` where there is none."""
        if self.stored is None:
            msg = f"tensor {self.name!r} holds no constant"
            raise InputError(msg, hint="Name a weight, not an activation.")
        if self.quantization is None:
            return self.stored.astype(np.float32)
        shape = [1] * self.stored.ndim
        if self.stored.ndim and self.quantization.scale.size > 1:
            shape[self.quantization.axis] = -1
        scale = self.quantization.scale.reshape(shape)
        offset = self.stored.astype(np.int64) - self.quantization.zero_point.reshape(shape)
        return (offset * scale).astype(np.float32)


@dataclass(frozen=True)
class Operator:
    """`kind` as the schema names it, "#n" for one not known here; -1 is an input left out."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A convolution's or linear layer's parameters, float32, on PyTorch's axes."""

    kind: str
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class TfliteModel:
    """The first subgraph of a file; `inputs` and `outputs` index `tensors`."""

    path: Path
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name; `InputError` with the nearest where there is none."""
        found = next((tensor for tensor in self.tensors if tensor.name == name), None)
        if found is None:
            msg = f"{self.path} has no tensor {name!r}"
            raise InputError(msg, hint=nearest(name, [tensor.name for tensor in self.tensors]))
        return found

    def layers(self) -> list[Layer]:
        """Convolutions and linear layers in the order they run, batch norm already folded."""
        found = []
        for operator in self.operators:
            if operator.kind not in KERNEL_AXES:
                continue
            _, kernel, *rest = operator.inputs
            bias = self.tensors[rest[0]].real() if rest and rest[0] >= 0 else None
            weight = self.tensors[kernel].real().transpose(KERNEL_AXES[operator.kind])
            found.append(Layer(operator.kind, np.ascontiguousarray(weight), bias))
        return found


def read_tflite(path: Path) -> TfliteModel:
    """The model in `path`; nothing in the file is executed.

    Raises `InputError` for a file that is missing, no TensorFlow Lite model, or cut short.
    """
    content = require_file(path, "model").read_bytes()
    if content[4:8] != b"TFL3":
        msg = f"{path} is no TensorFlow Lite model: its identifier is {content[4:8]!r}, not b'TFL3'"
        raise InputError(msg, hint="Name a .tflite file.")
    try:
        return _model(path, content)
    except DAMAGE as err:
        msg = f"{path} is damaged or cut short: {type(err).__name__}: {err}"
        raise InputError(msg, hint="Copy it again.") from err


def _model(path: Path, content: bytes) -> TfliteModel:
    root = Table(content, encode.Get(number_types.UOffsetTFlags.packer_type, content, 0))
    codes = [_code(table) for table in _tables(root, 1)]
    buffers = [_vector(table, 0, number_types.Uint8Flags) for table in _tables(root, 4)]
    graph, *_ = _tables(root, 2)
    tensors = tuple(_tensor(table, buffers) for table in _tables(graph, 0))
    operators = tuple(
        Operator(
            codes[_scalar(table, 0, number_types.Uint32Flags)],
            _indices(table, 1, tensors, lowest=-1),
            _indices(table, 2, tensors),
        )
        for table in _tables(graph, 3)
    )
    inputs, outputs = _indices(graph, 1, tensors), _indices(graph, 2, tensors)
    return TfliteModel(path, tensors, operators, inputs, outputs)


def _code(table: Table) -> str:
    # a byte in old files, an integer in newer ones, where the byte saturates
    number = max(
        _scalar(table, 0, number_types.Int8Flags), _scalar(table, 3, number_types.Int32Flags)
    )
    return KINDS.get(number, f"#{number}")


def _tensor(table: Table, buffers: list[Array]) -> Tensor:
    name = _field(table, 3, lambda place: table.String(place).decode(), "")
    shape = tuple(int(n) for n in _vector(table, 0, number_types.Int32Flags))
    number = _scalar(table, 1, number_types.Int8Flags)
    dtype = DTYPES.get(number, f"#{number}")
    content = buffers[_scalar(table, 2, number_types.Uint32Flags)]
    stored = None
    if content.size and number in DTYPES:
        stored = content.view(np.dtype(dtype).newbyteorder("<")).reshape(shape)
    return Tensor(name, shape, dtype, stored, _quantization(table))


def _quantization(tensor: Table) -> Quantization | None:
    place = tensor.Offset(4 + 2 * 4)
    if not place:
        return None
    table = Table(tensor.Bytes, tensor.Indirect(tensor.Pos + place))
    scale = _vector(table, 2, number_types.Float32Flags)
    if not scale.size:
        return None
    zero_point = _vector(table, 3, number_types.Int64Flags)
    if not zero_point.size:
        zero_point = np.zeros(scale.size, np.int64)
    if zero_point.size != scale.size:
        msg = f"{scale.size} scales for {zero_point.size} zero points"
        raise ValueError(msg)
    return Quantization(scale, zero_point, _scalar(table, 6, number_types.Int32Flags))


def _indices(
    table: Table, field: int, tensors: tuple[Tensor, ...], lowest: int = 0
) -> tuple[int, ...]:
    found = tuple(int(n) for n in _vector(table, field, number_types.Int32Flags))
    if wrong := [n for n in found if not lowest <= n < len(tensors)]:
        msg = f"tensor {wrong[0]} of {len(tensors)}"
        raise IndexError(msg)
    return found


def _field(table: Table, field: int, read: Callable[[int], T], default: T) -> T:
    place = table.Offset(4 + 2 * field)
    return read(table.Pos + place) if place else default


def _scalar(table: Table, field: int, flags: object) -> int:
    return _field(table, field, lambda place: int(table.Get(flags, place)), 0)


def _vector(table: Table, field: int, flags: object) -> Array:
    place = table.Offset(4 + 2 * field)
    if not place:
        return np.empty(0, number_types.to_numpy_type(flags))
    found: Array = table.GetVectorAsNumpy(flags, place)
    return found


def _tables(table: Table, field: int) -> list[Table]:
    place = table.Offset(4 + 2 * field)
    if not place:
        return []
    start, count = table.Vector(place), table.VectorLen(place)
    return [Table(table.Bytes, table.Indirect(start + 4 * n)) for n in range(count)]
