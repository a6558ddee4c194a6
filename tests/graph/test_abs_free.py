"""|x| without Abs, equal to the last bit."""

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx_graphs import model, node

from edgedeploy.graph.abs_free import abs_free

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, np.inf, -np.inf], np.float32)


def absolute(*shape: int) -> onnx.ModelProto:
    return model([node("Abs", ["x"], ["y"], name="a")], {"x": shape}, {"y": shape})


def kinds(made: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in made.graph.node]


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple),
)
def test_equal_bit_for_bit(data: st.DataObject, shape: tuple[int, ...]) -> None:
    floats = st.floats(width=32, allow_nan=False)
    values = data.draw(arrays(np.float32, shape, elements=floats))
    made = absolute(*shape)
    written, notes = abs_free(made)
    assert "Abs" not in kinds(written)
    assert notes == ["1 Abs written without Abs"]
    onnx.checker.check_model(written, full_check=True)
    before, after = graphs.run(made, x=values)[0], graphs.run(written, x=values)[0]
    assert before.dtype == after.dtype
    assert np.array_equal(before, after)
    assert np.array_equal(np.abs(values), after)


@pytest.mark.parametrize("shape", [(8,), (1, 2, 2, 2)])
def test_the_ends_of_the_range(shape: tuple[int, ...]) -> None:
    written, _ = abs_free(absolute(*shape))
    after = graphs.run(written, x=SPECIAL.reshape(shape))[0]
    assert np.array_equal(after, np.abs(SPECIAL).reshape(shape))


def test_images_take_one_node_and_other_shapes_four() -> None:
    assert kinds(abs_free(absolute(1, 3, 4, 4))[0]) == ["PRelu"]
    assert kinds(abs_free(absolute(1, 3, 4))[0]) == ["Neg", "Relu", "Relu", "Add"]


def test_several_in_one_model() -> None:
    nodes = [
        node("Abs", ["x"], ["a"]),
        node("Sub", ["a", "one"], ["s"]),
        node("Abs", ["s"], ["b"]),
        node("ReduceMean", ["b", "axes"], ["m"], keepdims=0),
        node("Abs", ["m"], ["y"]),
    ]
    weights = {"one": np.array(1, np.float32), "axes": np.array([2, 3])}
    made = model(nodes, {"x": (2, 3, 4, 4)}, {"y": (2, 3), "b": (2, 3, 4, 4)}, weights)
    written, notes = abs_free(made)
    assert notes == ["3 Abs written without Abs"]
    assert kinds(written).count("PRelu") == 2
    images = graphs.draw(2, 3, 4, 4)
    for one, other in zip(graphs.run(made, x=images), graphs.run(written, x=images), strict=True):
        assert np.array_equal(one, other)


def test_whole_numbers_and_models_without_it_stay() -> None:
    made = graphs.classifier()
    assert abs_free(made) == (made, [])
    whole = model([node("Abs", ["x"], ["y"])], {}, {})
    for field in (whole.graph.input, whole.graph.output):
        name = "x" if field is whole.graph.input else "y"
        field.append(graphs.value(name, (2,), onnx.TensorProto.INT32))
    kept, notes = abs_free(whole)
    assert kept is whole
    assert notes == []
