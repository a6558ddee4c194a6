"""Networks: the tensors and layers that the parser made of an ONNX model."""

from __future__ import annotations

from typing import Any

from tensorrt.enums import OLD, DataType, NetworkDefinitionCreationFlag
from tensorrt.log import emit
from tensorrt.strict import Bound, arguments

ONNX_TYPES = {
    **{1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"},
    **{16: "BF16", 17: "FP8"},
}


class ITensor(Bound):
    """A tensor by name; -1 in its shape is what a profile bounds."""

    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...], *, entry: bool) -> None:
        self._name, self._dtype, self._shape, self._entry = name, dtype, shape, entry

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    shape = property(lambda self: self._shape)
    is_network_input = property(lambda self: self._entry)
    is_network_output = property(lambda self: not self._entry)
    is_shape_tensor = property(lambda _: False)
    is_execution_tensor = property(lambda _: True)


class ILayer(Bound):
    """A layer: what an ONNX node became."""

    def __init__(self, name: str, kind: Any, outputs: list[ITensor]) -> None:
        self._name, self._type, self._outputs = name, kind, outputs

    name = property(lambda self: self._name)
    type = property(lambda self: self._type)
    num_outputs = property(lambda self: len(self._outputs))

    def get_output(self, index: int) -> ITensor | None:
        return self._outputs[index] if 0 <= index < len(self._outputs) else None


class INetworkDefinition(Bound):
    """Made by a builder, filled by a parser."""

    def __init__(self, builder: Any, flags: int) -> None:
        self._builder, self._flags = builder, flags
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []
        self._layers: list[ILayer] = []
        self._model: Any = None  # the ONNX model that was parsed, with inferred shapes
        self._bytes = b""

    name = "Unnamed Network 0"
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))
    builder = property(lambda self: self._builder)
    flags = property(lambda self: self._flags)

    def get_flag(self, flag: Any) -> bool:
        arguments("get_flag", (flag, NetworkDefinitionCreationFlag))
        return bool(self._flags >> int(flag) & 1)

    @property
    def _strongly_typed(self) -> bool:
        return not OLD or self.get_flag(NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def _at(self, found: list[Any], index: int, call: str) -> Any:
        if 0 <= index < len(found):
            return found[index]
        text = (
            f"INetworkDefinition::{call}: Error Code 3: API Usage Error (Parameter check failed,"
            f" condition: (0) <= (index) && (index) < ({len(found)}). Invalid index: {index}. )"
        )
        emit(self._builder.logger, "ERROR", text)
        return None

    def get_input(self, index: int) -> ITensor | None:
        return self._at(self._inputs, index, "getInput")

    def get_output(self, index: int) -> ITensor | None:
        return self._at(self._outputs, index, "getOutput")

    def get_layer(self, index: int) -> ILayer | None:
        return self._at(self._layers, index, "getLayer")


def tensor_of(value: Any, *, entry: bool) -> ITensor:
    """A network's tensor from an ONNX value."""
    kind = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else -1 for each in kind.shape.dim)
    dtype = DataType[ONNX_TYPES.get(kind.elem_type, "FLOAT")]
    return ITensor(value.name, dtype, shape, entry=entry)
