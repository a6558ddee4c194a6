"""A TensorFlow Lite file written for tests: one chain of layers, batch norm folded."""

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

TYPES = {"float32": 0, "int32": 2, "int8": 9}
CODES = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 9, "CUSTOM": 32}


@dataclass
class Written:
    """A tensor of the file; quantized where `scale` is given."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: Any = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0


def tflite_bytes(
    tensors: list[Written],
    operators: list[tuple[str, list[int], list[int]]],
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (),
) -> bytes:
    """The file's content; an operator is its kind, the tensors it reads and those it writes."""
    builder = flatbuffers.Builder(1024)
    buffers = [_table(builder, {})]
    for tensor in tensors:
        data = b"" if tensor.data is None else np.asarray(tensor.data, tensor.dtype).tobytes()
        content = builder.CreateByteVector(data)
        buffers.append(_table(builder, {0: ("offset", content)} if data else {}))
    rows = [_tensor(builder, tensor, place + 1) for place, tensor in enumerate(tensors)]
    kinds = sorted({kind for kind, _, _ in operators})
    codes = [
        _table(builder, {0: ("int8", min(CODES[kind], 127)), 3: ("int32", CODES[kind])})
        for kind in kinds
    ]
    steps = []
    for kind, reads, writes in operators:
        fields = {1: ("offset", _ints(builder, reads)), 2: ("offset", _ints(builder, writes))}
        steps.append(_table(builder, {0: ("uint32", kinds.index(kind)), **fields}))
    graph = {
        0: ("offset", _tables(builder, rows)),
        1: ("offset", _ints(builder, list(inputs))),
        2: ("offset", _ints(builder, list(outputs))),
        3: ("offset", _tables(builder, steps)),
    }
    graphs = _tables(builder, [_table(builder, graph)])
    model = {
        0: ("uint32", 3),
        1: ("offset", _tables(builder, codes)),
        2: ("offset", graphs),
        4: ("offset", _tables(builder, buffers)),
    }
    builder.Finish(_table(builder, model), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(builder: flatbuffers.Builder, tensor: Written, buffer: int) -> int:
    fields: dict[int, tuple[str, int]] = {
        0: ("offset", _ints(builder, list(tensor.shape))),
        1: ("int8", TYPES[tensor.dtype]),
        2: ("uint32", buffer),
        3: ("offset", builder.CreateString(tensor.name)),
    }
    if tensor.scale:
        scale = builder.CreateNumpyVector(np.asarray(tensor.scale, np.float32))
        zero = builder.CreateNumpyVector(np.asarray(tensor.zero_point, np.int64))
        parameters = {2: ("offset", scale), 3: ("offset", zero), 6: ("int32", tensor.axis)}
        fields[4] = ("offset", _table(builder, parameters))
    return _table(builder, fields)


def _table(builder: flatbuffers.Builder, fields: dict[int, tuple[str, int]]) -> int:
    builder.StartObject(8)
    for field, (kind, value) in fields.items():
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(field, value, 0)
        elif kind == "int8":
            builder.PrependInt8Slot(field, value, 0)
        elif kind == "int32":
            builder.PrependInt32Slot(field, value, 0)
        else:
            builder.PrependUint32Slot(field, value, 0)
    return int(builder.EndObject())


def _ints(builder: flatbuffers.Builder, values: list[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, np.int32)))


def _tables(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
