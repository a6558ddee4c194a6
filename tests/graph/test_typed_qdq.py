"""Explicit quantization: what is refused by node; float8 in the place of int8."""

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from onnx_graphs import model, node

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.fp8 import to_fp8
from edgedeploy.graph.qdq import check_qdq

IMAGE = (1, 3, 8, 8)
E4M3 = ml_dtypes.float8_e4m3fn


def pair(value: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    """A Q and a DQ node behind a value."""
    return [
        node("QuantizeLinear", [value, scale, zero], [f"{value}_q"], name=f"{value}_Q"),
        node("DequantizeLinear", [f"{value}_q", scale, zero], [f"{value}_d"], name=f"{value}_D"),
    ]


def weight(axis: int = 0, name: str = "w") -> onnx.NodeProto:
    inputs = [f"{name}_quantized", f"{name}_s", f"{name}_z"]
    return node("DequantizeLinear", inputs, [f"{name}_d"], name=f"{name}_D", axis=axis)


def tensors(**changed: graphs.Array) -> dict[str, graphs.Array]:
    """One scale for activations; weights (4, 3, 1, 1) in int8 with a scale a filter."""
    w = graphs.draw(4, 3, 1, 1)
    steps = (np.abs(w).reshape(4, -1).max(1) / 127).astype(np.float32)
    found = {
        "s": np.asarray(np.float32(1 / 32)),
        "z": np.asarray(np.int8(0)),
        "w_quantized": np.round(w / steps.reshape(4, 1, 1, 1)).astype(np.int8),
        "w_s": steps,
        "w_z": np.zeros(4, np.int8),
    }
    return {**found, **changed}


def conv(
    weights: Mapping[str, graphs.Array],
    nodes: Sequence[onnx.NodeProto] | None = None,
    *,
    opset: int = 18,
) -> onnx.ModelProto:
    """x -> Q -> DQ -> 1x1 Conv with quantized weights -> y."""
    made = nodes or [*pair("x"), weight(), node("Conv", ["x_d", "w_d"], ["y"], name="conv")]
    return model(made, {"x": IMAGE}, {"y": (1, 4, 8, 8)}, weights, opset=opset)


def test_a_symmetric_graph_has_nothing_to_refuse() -> None:
    assert check_qdq(conv(tensors())) == []
    assert check_qdq(graphs.classifier()) == []


BIAS = node("DequantizeLinear", ["b", "s"], ["b_d"], name="b_D")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (
            {"z": np.asarray(np.int8(-5))},
            ["Quantize 'x_Q': zero point -5", "Dequantize 'x_D': zero point -5: asymmetric"],
        ),
        (
            {"z": np.asarray(np.uint8(128))},
            ["Quantize 'x_Q': uint8; int8, float8e4m3fn", "Dequantize 'x_D': uint8; int8"],
        ),
        ({"z": np.asarray(np.uint16(0))}, ["Quantize 'x_Q': uint16", "Dequantize 'x_D': uint16"]),
        ({"w_z": np.array([0, 0, 3, 0], np.int8)}, ["Dequantize 'w_D': zero point 3: asymmetric"]),
        ({"w_s": np.array([1, 1, 0, 1], np.float32)}, ["Dequantize 'w_D': a scale is not above 0"]),
    ],
)
def test_numbers_that_are_refused(changed: dict[str, graphs.Array], found: list[str]) -> None:
    told = check_qdq(conv(tensors(**changed)))
    assert len(told) == len(found)
    for one, start in zip(told, found, strict=True):
        assert one.replace("Linear", "").startswith(start)


def test_a_missing_zero_point_is_uint8_where_it_is_quantized() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s"], ["q"], name="q"),
        node("DequantizeLinear", ["q", "s"], ["y"], name="d"),
    ]
    made = model(nodes, {"x": IMAGE}, {"y": IMAGE}, {"s": np.asarray(np.float32(1))}, opset=21)
    assert [told.split(":")[0] for told in check_qdq(made)] == [
        "QuantizeLinear 'q'",
        "DequantizeLinear 'd'",
    ]
    entry = made.graph.node[0].attribute.add(name="output_dtype", type=onnx.AttributeProto.INT)
    entry.i = TensorProto.INT8
    assert check_qdq(made) == []
    eight, notes = to_fp8(made)
    assert notes == ["float8 E4M3 in the place of int8: 1 activations and 0 weights"]
    assert eight.graph.node[0].attribute[0].i == TensorProto.FLOAT8E4M3FN
    onnx.checker.check_model(eight, full_check=True)


def test_a_quantized_bias_is_refused() -> None:
    nodes = [*pair("x"), weight(), BIAS, node("Conv", ["x_d", "w_d", "b_d"], ["y"], name="conv")]
    told = check_qdq(conv(tensors(b=np.arange(4, dtype=np.int32)), nodes))
    assert told == [
        "DequantizeLinear 'b_D': int32, as of a quantized bias; int8, float8e4m3fn, int4 are taken"
    ]


@pytest.mark.parametrize(
    ("kind", "shape", "right", "attributes"),
    [
        ("Conv", (3, 3, 1, 1), 0, {}),
        ("ConvTranspose", (3, 3, 1, 1), 1, {}),
        ("MatMul", (8, 8), 1, {}),
        ("Gemm", (8, 8), 1, {}),
        ("Gemm", (8, 8), 0, {"transB": 1}),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_weights_have_their_scales_along_output_channels(
    kind: str, shape: tuple[int, ...], right: int, attributes: dict[str, int], axis: int
) -> None:
    axis -= 2 * (axis < 0 and len(shape) == 4)  # the first axis, counted from the end
    source = (8, 8) if kind == "Gemm" else IMAGE
    nodes = [weight(axis), node(kind, ["x", "w_d"], ["y"], name="n", **attributes)]
    weights = {
        "w_quantized": np.ones(shape, np.int8),
        "w_s": np.ones(shape[axis], np.float32),
        "w_z": np.zeros(shape[axis], np.int8),
    }
    told = check_qdq(model(nodes, {"x": source}, {"y": source}, weights))
    place = axis % len(shape)
    expected = f"DequantizeLinear 'w_D': scales along axis {place}; {kind} 'n' takes axis {right}"
    assert told == ([] if place == right else [expected])


def test_activations_have_one_scale() -> None:
    by_channel = {"s": np.ones(3, np.float32), "z": np.zeros(3, np.int8)}
    told = check_qdq(conv(tensors(**by_channel)))
    assert told[0] == "QuantizeLinear 'x_Q': 3 scales by channel for an activation, which takes one"
    assert len(told) == 2


def test_integer_operators_are_refused() -> None:
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "a", "b"], name="dyn")]
    nodes.append(node("DequantizeLinear", ["q", "a", "b"], ["y"], name="d"))
    told = check_qdq(model(nodes, {"x": IMAGE}, {"y": IMAGE}))
    assert told == [
        "DynamicQuantizeLinear 'dyn': an integer operator, not Q/DQ",
        "DequantizeLinear 'd': the type of its integers is not known",
    ]


def test_float8_takes_the_ranges_of_int8() -> None:
    source = conv(tensors())
    before = source.SerializeToString()
    made, notes = to_fp8(source)
    assert source.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    assert notes == [
        "opset raised from 18 to 19",
        "float8 E4M3 in the place of int8: 1 activations and 1 weights",
    ]
    assert made.ir_version >= 9
    assert [n.name for n in made.graph.node] == [n.name for n in source.graph.node]
    held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    old = tensors()
    assert sorted(held) == ["s_fp8", "w_quantized_fp8", "w_s_fp8", "w_z_fp8", "z_fp8"]
    np.testing.assert_allclose(held["s_fp8"], old["s"] * 127 / 448, rtol=1e-7)
    np.testing.assert_allclose(held["w_s_fp8"], old["w_s"] * 127 / 448, rtol=1e-7)
    assert held["z_fp8"].dtype == held["w_z_fp8"].dtype == held["w_quantized_fp8"].dtype == E4M3
    exact = (old["w_quantized"].astype(np.float64) * 448 / 127).astype(E4M3)
    assert (held["w_quantized_fp8"].astype(np.float32) == exact.astype(np.float32)).all()
    assert np.abs(held["w_quantized_fp8"].astype(np.float32)).max() == 448
    known = {v.name: v.type.tensor_type.elem_type for v in made.graph.value_info}
    assert known["x_q"] == TensorProto.FLOAT8E4M3FN
    x = np.clip(graphs.draw(*IMAGE), -3.9, 3.9)
    one, two = graphs.run(source, x=x)[0], graphs.run(made, x=x)[0]
    assert 10 * np.log10((one**2).sum() / ((one - two) ** 2).sum()) > 25


def test_weights_of_the_float_model_are_rounded_once() -> None:
    floats = model(
        [node("Conv", ["x", "w"], ["y"])],
        {"x": IMAGE},
        {"y": (1, 4, 8, 8)},
        {"w": graphs.draw(4, 3, 1, 1)},
    )
    w = graphs.draw(4, 3, 1, 1)
    error = []
    for source in (None, floats):
        made, notes = to_fp8(conv(tensors()), source)
        held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
        steps = held["w_s_fp8"].reshape(4, 1, 1, 1)
        error.append(np.abs(held["w_quantized_fp8"].astype(np.float32) * steps - w).sum())
    assert error[1] <= error[0]
    assert notes[-1].endswith("1 weights, 1 of these from their floats")
    floats.graph.initializer[0].CopyFrom(numpy_helper.from_array(2 * w, "w"))
    assert to_fp8(conv(tensors()), floats)[1][-1].endswith("1 weights")


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.integers(-127, 127), min_size=1, max_size=24),
    scale=st.floats(2.0**-20, 2.0**10, width=32),
)
def test_the_law_of_one_weight(values: list[int], scale: float) -> None:
    """Each value moves by a sixteenth of itself, or half the smallest step, at the most."""
    integers = np.array(values, np.int8)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["w_d"]),
        node("Add", ["x", "w_d"], ["y"]),
    ]
    weights = {"w": integers, "s": np.asarray(np.float32(scale))}
    source = model(nodes, {"x": integers.shape}, {"y": integers.shape}, weights)
    made, _ = to_fp8(source)
    zeros = np.zeros(integers.shape, np.float32)
    exact, found = graphs.run(source, x=zeros)[0], graphs.run(made, x=zeros)[0]
    step = scale * 127 / 448 * 2.0**-9
    assert (np.abs(found - exact) <= np.maximum(np.abs(exact) / 16, step / 2) * (1 + 1e-5)).all()


def refused(made: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedError) as caught:
        to_fp8(made)
    assert caught.value.hint
    return caught.value.message


def test_float8_refuses_what_is_asymmetric_or_a_bias() -> None:
    message = refused(conv(tensors(z=np.asarray(np.int8(3)))))
    start = "fp8 cannot be made of QuantizeLinear 'x_Q': zero point 3: asymmetric and 1 more"
    assert message == start
    nodes = [*pair("x"), weight(), BIAS, node("Conv", ["x_d", "w_d", "b_d"], ["y"], name="conv")]
    assert "DequantizeLinear 'b_D': int32" in refused(conv(tensors(b=np.ones(4, np.int32)), nodes))


def test_float8_refuses_integers_that_others_take() -> None:
    first, last = pair("x")
    last.input[0] = "m"
    nodes = [first, node("MaxPool", ["x_q"], ["m"], name="pool", kernel_shape=[1, 1]), last]
    made = model(nodes, {"x": IMAGE}, {"x_d": IMAGE}, {"s": np.asarray(np.float32(1)), "z": ZERO})
    assert refused(made) == "fp8: MaxPool 'pool' takes the integers 'x_q'"
    made = model([first], {"x": IMAGE}, {}, {"s": np.asarray(np.float32(1)), "z": ZERO})
    made.graph.output.append(graphs.value("x_q", IMAGE, TensorProto.INT8))
    assert refused(made) == "fp8: the integers 'x_q' are an output of the model"
    made = model([last], {}, {"x_d": IMAGE}, {"s": np.asarray(np.float32(1)), "z": ZERO})
    made.graph.input.append(graphs.value("m", IMAGE, TensorProto.INT8))
    assert refused(made) == "fp8: DequantizeLinear 'x_D' takes integers that are no constant"


ZERO = np.asarray(np.int8(0))


def test_float8_keeps_a_newer_operator_set() -> None:
    made, notes = to_fp8(conv(tensors(), opset=21))
    assert notes == ["float8 E4M3 in the place of int8: 1 activations and 1 weights"]
    assert made.opset_import[0].version == 21
    assert to_fp8(made)[0].graph.initializer == made.graph.initializer
