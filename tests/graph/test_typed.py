"""Float16 and bfloat16 graphs: what is converted, what stays float32, and that it is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import TensorProto
from typed_checks import BRAIN, FLOAT, HALF, Type, close, keep_outside, kinds, one, told, wide_nodes

from edgedeploy.graph.typed import to_type

SHAPE, IMAGE = (2, 3), (1, 3, 8, 8)
KINDS: dict[Type, int] = {"float16": HALF, "bfloat16": BRAIN}


def test_ends_stay_and_the_rest_is_of_the_type() -> None:
    source = graphs.classifier()
    before = source.SerializeToString()
    made, notes = to_type(source, "float16")
    assert source.SerializeToString() == before
    known = kinds(made)
    assert known == {
        "x": FLOAT,
        "x_float16": HALF,
        **dict.fromkeys(["w1", "b1", "w2", "b2", "c", "r", "m", "f", "y_float16"], HALF),
        "y": FLOAT,
    }
    assert [n.op_type for n in made.graph.node] == [
        *("Cast", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm", "Cast"),
    ]
    assert [n.name for n in made.graph.node][1:-1] == [n.name for n in source.graph.node]
    assert [v.name for v in made.graph.value_info].count("c") == 1
    assert notes == []
    close(source, made, 3e-3, x=graphs.draw(*IMAGE))


def test_bfloat16_needs_a_newer_operator_set() -> None:
    made, notes = to_type(graphs.classifier(), "bfloat16")
    assert notes == ["opset raised from 18 to 22"]
    assert made.ir_version == 10
    assert {k for n, k in kinds(made).items() if n not in {"x", "y"}} == {BRAIN}


def test_an_older_operator_set_that_cannot_be_raised_is_told() -> None:
    """Weights in files keep the converter away: convolutions have no bfloat16 before opset 22."""
    source = graphs.classifier()
    keep_outside(source, "w1")
    made, notes = to_type(source, "bfloat16")
    assert notes == [
        "opset 18 kept: the weights are too large for one file",
        "float32 stays in 1 (Conv: no bfloat16 in opset 18): conv",
        "float32 stays in 1 (GlobalAveragePool: no bfloat16 in opset 18): mean",
    ]
    assert [n.op_type for n in made.graph.node if n.op_type != "Cast"] == [
        *("Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"),
    ]


def test_weights_in_files_stay_there_behind_a_cast(tmp_path: Path) -> None:
    source = graphs.classifier()
    data = next(t for t in source.graph.initializer if t.name == "w1").raw_data
    keep_outside(source, "w1")
    (tmp_path / "w.bin").write_bytes(data)
    made, notes = to_type(source, "float16")
    assert notes == ["float32 stays in 1 (weights kept in files): w1"]
    held = next(t for t in made.graph.initializer if t.name == "w1")
    assert (held.data_location, held.data_type) == (TensorProto.EXTERNAL, FLOAT)
    path = graphs.saved(made, tmp_path / "typed.onnx")
    x = graphs.draw(*IMAGE)
    expected = graphs.run(graphs.classifier(), x=x)[0]
    np.testing.assert_allclose(graphs.run(path, x=x)[0], expected, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes"),
    [
        ("Add", [SHAPE, SHAPE], {}),
        ("Pow", [SHAPE, (3,)], {}),
        ("MatMul", [SHAPE, (3, 4)], {}),
        ("Softmax", [SHAPE], {"axis": 1}),
        ("LayerNormalization", [SHAPE, (3,), (3,)], {}),
        ("BatchNormalization", [IMAGE, (3,), (3,), (3,), (3,)], {}),
        ("InstanceNormalization", [IMAGE, (3,), (3,)], {}),
        ("ConvTranspose", [IMAGE, (3, 4, 2, 2)], {"strides": [2, 2]}),
        ("MaxPool", [IMAGE], {"kernel_shape": [2, 2]}),
        ("GridSample", [IMAGE, (1, 4, 4, 2)], {}),
        ("Clip", [SHAPE, (), ()], {}),
        ("Concat", [SHAPE, SHAPE, SHAPE], {"axis": 0}),
        ("ReduceMean", [SHAPE], {}),
        ("CumSum", [SHAPE, ()], {}),
        ("CastLike", [SHAPE, SHAPE], {}),
        ("Cast", [SHAPE], {"to": FLOAT}),
        ("Dropout", [SHAPE], {}),
        ("HardSwish", [SHAPE], {}),
        ("PRelu", [SHAPE, (3,)], {}),
        ("Bernoulli", [SHAPE], {"dtype": FLOAT}),
        ("EyeLike", [SHAPE], {"dtype": FLOAT}),
        ("RandomUniform", [], {"shape": [2, 3]}),
        ("HannWindow", [()], {}),
        ("ConstantOfShape", [()], {}),
    ],
)
@pytest.mark.parametrize("dtype", KINDS)
def test_operators_that_take_the_type(
    kind: str,
    shapes: list[Sequence[int]],
    attributes: dict[str, Any],
    dtype: Type,
) -> None:
    source = one(kind, *shapes, **attributes)
    for value in source.graph.input:
        integer = {"CumSum": "b", "HannWindow": "a", "ConstantOfShape": "a"}.get(kind)
        if value.name == integer:
            value.type.tensor_type.elem_type = TensorProto.INT64
    made_of = source.graph.output[0].type.tensor_type
    made_of.elem_type = FLOAT
    if kind == "ConstantOfShape":
        source.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1
    if not made_of.HasField("shape"):
        made_of.shape.dim.add().dim_param = "n"
    made, notes = to_type(onnx.shape_inference.infer_shapes(source), dtype)
    assert told(notes) == 0
    assert wide_nodes(made) == []
    assert kinds(made)["y"] == FLOAT
    assert kinds(made)[f"y_{dtype}"] == KINDS[dtype]
