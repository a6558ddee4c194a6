"""Shapes fixed, operator sets raised, graphs simplified: the outputs stay."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx_graphs import model, node

from edgedeploy.errors import ExportError
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.read import is_quantized, opset_of, real_inputs
from edgedeploy.graph.shapes import dimensions, fix_shapes, set_dimensions, with_shapes
from edgedeploy.graph.simplify import simplify

IMAGES = graphs.draw(1, 3, 8, 8)


def shapes_of(made: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    return {v.name: dimensions(v) for v in [*real_inputs(made), *made.graph.output]}


def refused(made: onnx.ModelProto, shapes: Mapping[str, Any]) -> ExportError:
    with pytest.raises(ExportError) as caught:
        fix_shapes(made, shapes)
    return caught.value


def test_dimensions_are_sizes_names_or_unknown() -> None:
    assert dimensions(graphs.value("x", ("batch", 3, None, -1, 0))) == ("batch", 3, "?", "?", "?")
    assert dimensions(graphs.value("x", ())) == ()


def test_a_static_model_stays_as_it_is() -> None:
    made = graphs.classifier()
    fixed, notes = fix_shapes(made, {})
    assert fixed is made
    assert notes == []


@pytest.mark.parametrize("batch", ["batch", None, -1])
def test_a_symbolic_batch_becomes_one_with_a_note(batch: Any) -> None:
    made = graphs.classifier()
    for value in (made.graph.input[0], made.graph.output[0]):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        if isinstance(batch, str):
            dim.dim_param = batch
        elif batch is not None:
            dim.dim_value = batch
    fixed, notes = fix_shapes(made, {})
    assert shapes_of(fixed) == {"x": (1, 3, 8, 8), "y": (1, 5)}
    assert notes == [f"symbolic batch {batch if batch == 'batch' else '?'!r} of x fixed to 1"]
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_value < 1
    np.testing.assert_array_equal(graphs.run(fixed, x=IMAGES)[0], graphs.run(made, x=IMAGES)[0])


def test_a_shape_asked_for_holds_for_all_that_share_its_symbols() -> None:
    made = model(
        [node("Add", ["a", "b"], ["y"])],
        {"a": ("n", "h", 4), "b": ("n", "h", 4)},
        {"y": ("n", "h", 4)},
    )
    fixed, notes = fix_shapes(made, {"a": (2, 7, 4)})
    assert shapes_of(fixed) == {"a": (2, 7, 4), "b": (2, 7, 4), "y": (2, 7, 4)}
    assert notes == []


@given(
    static=st.lists(st.booleans(), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 9), min_size=5, max_size=5),
)
def test_what_is_asked_for_is_what_is_got(static: list[bool], sizes: list[int]) -> None:
    wanted = tuple(sizes[: len(static)])
    shape = [
        size if fixed else f"d{i}"
        for i, (fixed, size) in enumerate(zip(static, wanted, strict=True))
    ]
    fixed, notes = fix_shapes(graphs.relu(shape), {"x": wanted})
    assert shapes_of(fixed) == {"x": wanted, "y": wanted}
    assert notes == []


def test_stale_shapes_of_the_symbolic_model_are_inferred_anew() -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("Neg", ["h"], ["y"])]
    made = model(nodes, {"x": ("n", 4)}, {"y": ("m", None)})
    made.graph.value_info.append(graphs.value("h", ("n", 4)))
    fixed, _ = fix_shapes(made, {"x": (3, 4)})
    assert dimensions(fixed.graph.value_info[0]) == (3, 4)
    assert shapes_of(fixed)["y"] == (3, 4)


def test_a_symbolic_dimension_that_nobody_fixed() -> None:
    error = refused(graphs.relu(("n", 3, "h", None)), {})
    assert error.message == "input 'x' has a symbolic dimension: (n, 3, h, ?)"
    assert error.hint == "Give it: --shape x=N,3,N,N"


def test_a_shape_for_an_input_that_is_not_there() -> None:
    error = refused(graphs.relu(), {"image": (1, 3, 8, 8)})
    assert error.message == "a shape is given for input 'image'; the model's inputs are x"


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ((1, 8, 8, 3), "The layout differs (NCHW or NHWC)"),
        ((1, 3, 9, 8), "Correct the shape."),
        ((3, 8, 8), "Correct the shape."),
    ],
)
def test_a_shape_that_does_not_fit(wanted: tuple[int, ...], hint: str) -> None:
    error = refused(graphs.relu((1, 3, 8, 8)), {"x": wanted})
    assert error.message.startswith("input 'x' of the model is (1, 3, 8, 8), the shape asked for (")
    assert error.hint.startswith(hint)


def test_inference_that_fails_costs_no_model() -> None:
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 3)}, {"y": (1, 2)})
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((5, 2), np.float32), "w"))
    assert [n.op_type for n in with_shapes(made).graph.node] == ["MatMul"]


def test_set_dimensions_takes_the_place_of_what_was_there() -> None:
    value = graphs.value("y", ("n", None, 3))
    set_dimensions(value, (2, 5))
    assert dimensions(value) == (2, 5)


@pytest.mark.parametrize("old", [9, 11, 13, 17])
def test_raising_an_operator_set_keeps_the_outputs(old: int) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Clip", ["c"], ["k"], min=0.0, max=2.0)
        if old < 11
        else node("Clip", ["c", "zero", "two"], ["k"]),
        node("ReduceMean", ["k"], ["m"], axes=[2, 3], keepdims=0),
        node("Softmax", ["m"], ["y"], axis=1),
    ]
    weights = {
        "w": graphs.draw(6, 3, 3, 3),
        "zero": np.array(0, np.float32),
        "two": np.array(2, np.float32),
    }
    made = model(nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 6)}, weights, opset=old)
    raised, note = raise_opset(made, 18)
    assert opset_of(raised) == 18
    assert note == f"opset raised from {old} to 18"
    for seed in range(3):
        images = graphs.draw(1, 3, 8, 8, seed=seed)
        before, after = graphs.run(made, x=images)[0], graphs.run(raised, x=images)[0]
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-7)


def test_an_operator_set_is_never_lowered() -> None:
    made = graphs.relu(opset=20)
    assert raise_opset(made, 18) == (made, None)
    assert raise_opset(made, 20) == (made, None)


def test_what_cannot_be_raised_stays_and_says_so() -> None:
    made = model([node("Frobnicate", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}, opset=9)
    kept, note = raise_opset(made, 18)
    assert kept is made
    assert note is not None
    assert note.startswith("opset 9 kept: not convertible to 18 (")


def quantized() -> onnx.ModelProto:
    weights = {"s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    return model(nodes, {"x": (1, 4)}, {"y": (1, 4)}, weights, opset=13)


def test_a_quantized_model_is_neither_raised_nor_simplified() -> None:
    made = quantized()
    assert is_quantized(made)
    assert raise_opset(made, 18) == (made, "opset 13 kept: the model is already quantized")
    kept, note = simplify(made)
    assert note == "not simplified: the model is already quantized"
    assert [n.op_type for n in kept.graph.node] == ["QuantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize("kind", ["DynamicQuantizeLinear", "MatMulInteger", "QLinearConv"])
def test_integer_operators_make_a_quantized_model(kind: str) -> None:
    assert is_quantized(model([node(kind, ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}))
    assert not is_quantized(graphs.classifier())


def test_simplifying_folds_shape_arithmetic_and_normalisation() -> None:
    names = ["scale", "bias", "mean", "var"]
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", *names], ["b"]),
        node("Shape", ["b"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["target"], axis=0),
        node("Reshape", ["b", "target"], ["y"]),
    ]
    weights = {
        "w": graphs.draw(6, 3, 3, 3),
        "zero": np.array(0),
        "axis": np.array([0]),
        "rest": np.array([-1]),
        **{name: np.abs(graphs.draw(6, seed=i)) + 0.5 for i, name in enumerate(names)},
    }
    made = model(nodes, {"x": (1, 3, 8, 8)}, {"y": (None, None)}, weights)
    simplified, note = simplify(made)
    assert note is None
    assert [n.op_type for n in simplified.graph.node] == ["Conv", "Reshape"]
    assert shapes_of(simplified)["y"] == (1, 384)
    before, after = graphs.run(made, x=IMAGES)[0], graphs.run(simplified, x=IMAGES)[0]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(
    kinds=st.lists(st.sampled_from(["Relu", "Neg", "Sigmoid", "Identity", "Abs"]), max_size=6),
    seed=st.integers(0, 99),
)
def test_simplifying_keeps_the_outputs(kinds: list[str], seed: int) -> None:
    names = ["x", *(f"h{i}" for i in range(len(kinds)))]
    nodes = [node(kind, [names[i]], [names[i + 1]]) for i, kind in enumerate(kinds)]
    made = model([*nodes, node("Add", [names[-1], "x"], ["y"])], {"x": (2, 3)}, {"y": (2, 3)})
    simplified, note = simplify(made)
    assert note is None
    assert len(simplified.graph.node) <= len(made.graph.node)
    given_x = graphs.draw(2, 3, seed=seed)
    before, after = graphs.run(made, x=given_x)[0], graphs.run(simplified, x=given_x)[0]
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize("how", ["raises", "differs"])
def test_a_simplifier_that_fails_costs_no_model(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given_model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        if how == "raises":
            msg = "no such thing\nand more"
            raise IndexError(msg)
        return graphs.relu(), False

    monkeypatch.setattr("onnxsim.simplify", broken)
    made = graphs.classifier()
    kept, note = simplify(made)
    expected = {
        "raises": "not simplified: onnxsim raised IndexError ['no such thing']",
        "differs": "not simplified: onnxsim changed the outputs",
    }
    assert note == expected[how]
    assert [n.op_type for n in kept.graph.node] == [n.op_type for n in made.graph.node]
    assert kept.graph.value_info
