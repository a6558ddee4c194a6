"""The ONNX model as the parser gets it: all nodes named, sizes fixed, its ends known by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
from dfc_faults import BadInput, Unsupported

if TYPE_CHECKING:
    Table = dict[str, Any]

QUANTIZED = re.compile(r"(Dynamic)?(Quantize|Dequantize)Linear|QLinear\w+|QGemm|\w+Integer")
FLOAT32 = onnx.TensorProto.FLOAT
# nodes that hand their input on in another shape: the parser makes no layer of them
SHAPING = {"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Dropout"}
MOVING = {"Transpose", "Reshape"}
NORMALIZING = {"Sub", "Add", "Mul", "Div", "BatchNormalization"}
PASSING = {"Cast", "Identity", "Transpose"}


class Network(NamedTuple):
    """A model that is ready for the parser.

    `inputs` have name, dtype and shape; `outputs` besides these `node`, the end node to ask for,
    `aliases`, the names its layer may go by, and `moved`, whether it ends in a change of axes.
    """

    proto: onnx.ModelProto
    inputs: list[Table]
    outputs: list[Table]

    def operators(self) -> dict[str, str]:
        """The operator of each node by its name."""
        return {node.name: node.op_type for node in self.proto.graph.node}

    def end_nodes(self) -> list[str]:
        """The nodes to end at, in the order of the outputs."""
        return [each["node"] for each in self.outputs]


def read(model: str) -> Network:
    """The model in a file; the file is not written to.

    Raises `BadInput` for what is no model, `Unsupported` for one that is quantized, has a batch
    other than 1, free sizes, inputs that are not float32, or outputs that no node makes.
    """
    try:
        proto = onnx.load(model)
    except Exception as error:
        msg = f"{model} is no ONNX model: {error}"
        raise BadInput(msg, "Export it again.") from error
    for node in proto.graph.node:
        if QUANTIZED.fullmatch(node.op_type):
            msg = f"the model is quantized already: node {node.name!r} is a {node.op_type}"
            raise Unsupported(msg, "Give the float model; Hailo's compiler quantizes by itself.")
    inputs = [input_of(value) for value in real_inputs(proto)]
    named: set[str] = set()
    for node in proto.graph.node:
        if node.name in named or not node.name:
            node.name = next(name for name in node.output if name)
        named.add(node.name)
    settle_outputs(proto, model)
    return Network(proto, inputs, outputs_of(proto))


def real_inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs without the weights that old exporters list among them."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in weights]


def input_of(value: onnx.ValueInfoProto) -> Table:
    """Name, dtype and shape of an input; a free batch axis becomes 1, in place."""
    kind = value.type.tensor_type
    if kind.elem_type != FLOAT32:
        found = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        msg = f"input {value.name!r} is {found}; Hailo's parser takes float32 inputs"
        raise Unsupported(msg, "Do what needs whole numbers, such as a look-up, on the host.")
    for axis, size in enumerate(kind.shape.dim):
        if not size.dim_value and axis == 0:
            size.dim_value = 1
        elif not size.dim_value:
            msg = f"axis {axis} of input {value.name!r} is free ({size.dim_param or '?'})"
            raise Unsupported(msg, "Export it with a fixed size: the chip has no other.")
    shape = [size.dim_value for size in kind.shape.dim]
    if not shape or shape[0] != 1:
        msg = f"input {value.name!r} has shape {shape}: its first axis is no batch of 1"
        hint = "Export it with batch 1: several frames at once are the option `batch_size`."
        raise Unsupported(msg, hint)
    return {"name": value.name, "dtype": "float32", "shape": shape}


def settle_outputs(proto: onnx.ModelProto, model: str) -> None:
    """Check the model, and work the shapes of its outputs out anew, in place.

    What an exporter wrote of free sizes is of no use once the batch is 1.
    """
    del proto.graph.value_info[:]
    try:
        onnx.checker.check_model(proto)
        bare = onnx.ModelProto()
        bare.CopyFrom(proto)
        for value in bare.graph.output:
            value.type.tensor_type.ClearField("shape")
        found = onnx.shape_inference.infer_shapes(bare).graph.output
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        msg = f"{Path(model).name} is no valid ONNX model: {str(error).splitlines()[0]}"
        raise BadInput(msg, "Export it again; onnx.checker tells more.") from error
    shapes = {value.name: value.type.tensor_type.shape for value in found}
    for value in proto.graph.output:
        dims = shapes[value.name].dim
        if dims and all(size.dim_value for size in dims):
            value.type.tensor_type.shape.CopyFrom(shapes[value.name])


def outputs_of(proto: onnx.ModelProto) -> list[Table]:
    """The outputs with the nodes to end at; see `Network`."""
    makers = {name: node for node in proto.graph.node for name in node.output}
    found: list[Table] = []
    for value in proto.graph.output:
        node = makers.get(value.name)
        if node is None or node.op_type == "Constant":
            msg = f"output {value.name!r} is made by no node: it is an input or a constant"
            raise Unsupported(msg, "Leave it out of the model; the host has it.")
        twin = next((each for each in found if each["node"] == node.name), None)
        if twin is not None:
            msg = f"outputs {twin['name']!r} and {value.name!r} come from one node, {node.name!r}"
            raise Unsupported(msg, "End the model before it: an end node gives one output.")
        dims = value.type.tensor_type.shape.dim
        shape = [size.dim_value for size in dims]
        if not shape or not all(shape):
            told = [size.dim_value or size.dim_param or "?" for size in dims]
            msg = f"output {value.name!r} has no fixed shape: {told}"
            raise Unsupported(msg, "Export it with fixed sizes and a batch axis of 1.")
        found.append(
            {
                "name": value.name,
                "dtype": onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
                "shape": shape,
                "node": node.name,
                "aliases": aliases(node, makers),
                "moved": node.op_type in MOVING,
            }
        )
    for each in found:
        each["dtype"] = {"float": "float32"}.get(each["dtype"], each["dtype"])
    return found


def aliases(node: onnx.NodeProto | None, makers: dict[str, onnx.NodeProto]) -> list[str]:
    """Names that the layer of an end node may go by, the nearest first: its own, its values', and
    those of the node whose values it only shapes.
    """
    found = []
    while node is not None:
        found += [node.name, *node.output]
        node = makers.get(node.input[0]) if node.op_type in SHAPING and node.input else None
    return found


def own_normalization(network: Network, name: str) -> str | None:
    """The node with which a model normalizes an input by itself, by constants; None where none."""
    graph = network.proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            return None
        node = readers[0]
        others = [other for other in node.input if other and other != name]
        if node.op_type in NORMALIZING and others and set(others) <= constants:
            return f"{node.name} ({node.op_type})"
        if node.op_type not in PASSING:
            return None
        name = node.output[0]


def name_of(network: str, model: str, sha256: str) -> str:
    """The network's name: the one asked for, else the file's, made of letters, digits and _.

    A file called model says nothing: such networks are told apart by the model's hash.
    """
    name = re.sub(r"\W+", "_", network or Path(model).stem, flags=re.ASCII).strip("_")
    if not name or (not network and name == "model"):
        name = f"net_{sha256[:8]}"
    return f"net_{name}" if name[0].isdigit() else name
