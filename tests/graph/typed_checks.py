"""What a graph of a narrower float type holds, for tests."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphs as graphs
from onnx import TensorProto

FLOAT, HALF, BRAIN = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
Type = Literal["float16", "bfloat16"]


def sound(made: onnx.ModelProto) -> onnx.ModelProto:
    """The model, checked, with the types of all its values."""
    onnx.checker.check_model(made, full_check=True)
    return onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


def kinds(made: onnx.ModelProto) -> dict[str, int]:
    graph = sound(made).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def wide_nodes(made: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that take or give float32, without the Casts."""
    known = kinds(made)
    return [
        n
        for n in made.graph.node
        if n.op_type not in {"Cast", "Constant"}
        and any(known.get(name) == FLOAT for name in [*n.input, *n.output])
    ]


def told(notes: Sequence[str]) -> int:
    """How many nodes and weights the notes say stay float32."""
    return sum(int(note.split()[3]) for note in notes if note.startswith("float32 stays"))


def close(made: onnx.ModelProto, other: onnx.ModelProto, rtol: float, **inputs: Any) -> None:
    for one, two in zip(graphs.run(made, **inputs), graphs.run(other, **inputs), strict=True):
        assert two.dtype == one.dtype
        scale = np.abs(one).max() if one.dtype.kind == "f" else 0
        np.testing.assert_allclose(two, one, rtol=rtol, atol=rtol * scale)


def one(kind: str, *shapes: Sequence[int], opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    """One operator of inputs a, b, ... of these shapes; the output's shape is inferred."""
    names = [chr(ord("a") + i) for i in range(len(shapes))]
    outputs = ["y", "scale", "zero"] if kind == "DynamicQuantizeLinear" else ["y"]
    operator = graphs.node(kind, names, outputs, name="n", **attributes)
    made = graphs.model([operator], {}, {}, opset=opset)
    made.graph.input.extend(graphs.value(n, s) for n, s in zip(names, shapes, strict=True))
    made.graph.output.append(onnx.ValueInfoProto(name="y"))
    return onnx.shape_inference.infer_shapes(made)


def keep_outside(made: onnx.ModelProto, name: str) -> None:
    tensor = next(t for t in made.graph.initializer if t.name == name)
    onnx.external_data_helper.set_external_data(tensor, "w.bin", length=len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
