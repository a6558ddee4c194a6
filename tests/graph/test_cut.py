"""End-node cut: the tail of the body's outputs is the model."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import model, node

from edgedeploy.errors import ExportError, InputError
from edgedeploy.graph.cut import cut, find_end_nodes
from edgedeploy.graph.operators import Operator, Operators
from edgedeploy.graph.read import read_onnx
from edgedeploy.graph.simplify import simplify

IMAGE = (1, 3, 8, 8)
SMALL = Operators(
    library="a library",
    source="this test",
    operators={
        kind: Operator() for kind in ("Conv", "Relu", "Transpose", "Reshape", "Add", "Gemm")
    },
)


def detector() -> onnx.ModelProto:
    """Two heads on one backbone, each convolution, NHWC, rows, sigmoid; and the backbone's mean."""
    weights = {
        "w": graphs.draw(6, 3, 3, 3),
        "w_class": graphs.draw(2, 6, 1, 1, seed=2),
        "w_box": graphs.draw(4, 6, 1, 1, seed=3),
        "rows_2": np.array([1, -1, 2]),
        "rows_4": np.array([1, -1, 4]),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="backbone", pads=[1] * 4),
        node("Relu", ["c"], ["features"], name="act"),
        node("Conv", ["features", "w_class"], ["class_map"], name="class"),
        node("Conv", ["features", "w_box"], ["box_map"], name="box"),
        node("Transpose", ["class_map"], ["class_last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["class_last", "rows_2"], ["class_rows"]),
        node("Sigmoid", ["class_rows"], ["scores"], name="score"),
        node("Transpose", ["box_map"], ["box_last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["box_last", "rows_4"], ["boxes"]),
        node("GlobalAveragePool", ["features"], ["mean"], name="mean"),
    ]
    outputs = {"scores": (1, 64, 2), "mean": (1, 6, 1, 1), "boxes": (1, 64, 4)}
    return model(nodes, {"x": IMAGE}, outputs, weights)


def names(values: Iterable[Any]) -> list[str]:
    return [value.name for value in values]


def through(made: onnx.ModelProto, ends: list[str], **inputs: graphs.Array) -> list[graphs.Array]:
    """The outputs by way of body and tail, both valid models."""
    body, tail = cut(made, ends)
    for part in (body, tail):
        onnx.checker.check_model(part, full_check=True)
    needed = {name: inputs[name] for name in names(body.graph.input)}
    values = dict(zip(names(body.graph.output), graphs.run(body, **needed), strict=True))
    assert names(tail.graph.input) == names(body.graph.output)
    return graphs.run(tail, **values)


@pytest.mark.parametrize(
    "ends",
    [
        ["class", "box"],
        ["class_map", "box_map"],
        ["class_rows"],
        ["class_last", "box"],
        ["features"],
        ["act"],
        ["backbone"],
        ["score", "box_last"],
    ],
)
def test_tail_after_body_is_the_model(ends: list[str]) -> None:
    made = detector()
    x = graphs.draw(*IMAGE)
    found = through(made, ends, x=x)
    for one, other in zip(found, graphs.run(made, x=x), strict=True):
        assert np.array_equal(one, other)


def test_each_part_has_its_own_nodes_weights_and_values() -> None:
    body, tail = cut(detector(), ["class", "box"])
    assert names(body.graph.input) == ["x"]
    assert names(body.graph.output) == ["class_map", "box_map", "mean"]
    assert names(body.graph.initializer) == ["w", "w_class", "w_box"]
    assert [n.op_type for n in tail.graph.node].count("Conv") == 0
    assert names(tail.graph.output) == ["scores", "mean", "boxes"]
    assert names(tail.graph.initializer) == ["rows_2", "rows_4"]


def test_constants_go_where_they_are_used() -> None:
    rows = onnx.numpy_helper.from_array(np.array([1, 192]))
    nodes = [
        node("Constant", [], ["rows"], value=rows),
        node("Relu", ["x"], ["r"], name="act"),
        node("Reshape", ["r", "rows"], ["y"]),
    ]
    made = model(nodes, {"x": IMAGE}, {"y": (1, 192)})
    body, tail = cut(made, ["act"])
    assert [n.op_type for n in body.graph.node] == ["Relu"]
    assert [n.op_type for n in tail.graph.node] == ["Constant", "Reshape"]
    assert names(body.graph.output) == ["r"]
    x = graphs.draw(*IMAGE)
    assert np.array_equal(through(made, ["act"], x=x)[0], graphs.run(made, x=x)[0])


def test_a_value_that_crosses_unnamed_leaves_the_body_too() -> None:
    nodes = [
        node("Relu", ["x"], ["skip"], name="first"),
        node("Conv", ["skip", "w"], ["c"], name="conv"),
        node("Tanh", ["c"], ["t"]),
        node("Add", ["t", "skip"], ["y"]),
    ]
    made = model(nodes, {"x": IMAGE}, {"y": IMAGE}, {"w": graphs.draw(3, 3, 1, 1)})
    body, _ = cut(made, ["conv"])
    assert names(body.graph.output) == ["c", "skip"]
    x = graphs.draw(*IMAGE)
    assert np.array_equal(through(made, ["conv"], x=x)[0], graphs.run(made, x=x)[0])


def test_an_end_before_another_stays_in_the_body() -> None:
    made = detector()
    body, _ = cut(made, ["features", "class", "box"])
    assert "mean" not in [n.name for n in body.graph.node]
    assert names(body.graph.output) == ["features", "class_map", "box_map"]
    x = graphs.draw(*IMAGE)
    for one, other in zip(
        through(made, ["features", "class", "box"], x=x), graphs.run(made, x=x), strict=True
    ):
        assert np.array_equal(one, other)


KINDS = ["Relu", "Neg", "Sigmoid", "Tanh", "Add", "Mul"]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), count=st.integers(2, 9))
def test_the_law_over_random_graphs(data: st.DataObject, count: int) -> None:
    """Nodes take any values before them; outputs are any of them; the cut is anywhere."""
    made_so_far, nodes = ["x"], []
    for i in range(count):
        kind = data.draw(st.sampled_from(KINDS))
        taken = data.draw(st.lists(st.sampled_from(made_so_far[-4:]), min_size=2, max_size=2))[
            : 2 if kind in {"Add", "Mul"} else 1
        ]
        nodes.append(node(kind, taken, [f"v{i}"], name=f"n{i}"))
        made_so_far.append(f"v{i}")
    others = data.draw(st.sets(st.sampled_from(made_so_far[1:]), max_size=3))
    outputs = dict.fromkeys([*sorted(others), f"v{count - 1}"], (2, 3))
    made = model(nodes, {"x": (2, 3)}, outputs)
    wanted = data.draw(st.lists(st.sampled_from(made_so_far[1:]), min_size=1, max_size=2))
    if not sound(made, wanted):
        assert refused(made, wanted).hint
        return
    x = graphs.draw(2, 3)
    for one, other in zip(through(made, wanted, x=x), graphs.run(made, x=x), strict=True):
        assert np.array_equal(one, other)


def sound(made: onnx.ModelProto, ends: list[str]) -> bool:
    """Whether a cut can be made: each end is needed behind it, and nothing there needs x."""
    users = {n.name: (list(n.input), n.output[0]) for n in made.graph.node}
    outputs = set(names(made.graph.output))
    before, behind, alive = set(ends), set(ends), set(outputs)
    for taken, made_value in reversed(users.values()):
        before |= set(taken) if made_value in before else set()
        alive |= set(taken) if made_value in alive else set()
    needed: set[str] = set()
    tail = False
    for taken, made_value in users.values():
        if made_value in alive and made_value not in before and behind & set(taken):
            behind.add(made_value)
            needed |= set(taken)
            tail = True
    return tail and set(ends) <= needed | outputs and "x" not in needed


def refused(made: onnx.ModelProto, ends: list[str]) -> InputError:
    with pytest.raises(InputError) as caught:
        cut(made, ends)
    assert caught.value.hint
    return caught.value


def test_a_name_that_is_not_there() -> None:
    error = refused(detector(), ["class_mab"])
    assert error.message == "end node 'class_mab' is neither a node nor a value of the model"
    assert error.hint == "Did you mean 'class_map'?"


def test_an_input_is_no_end_node() -> None:
    assert refused(detector(), ["x"]).message.startswith("end node 'x' is an input of the model")


def test_nothing_behind_the_cut() -> None:
    error = refused(detector(), ["scores", "mean", "boxes"])
    assert error.message == "nothing lies behind the end nodes scores, mean, boxes"


def test_an_end_that_nothing_behind_needs() -> None:
    error = refused(detector(), ["backbone", "class"])
    assert error.message == "end node 'c' is needed by nothing behind the cut"


def test_a_tail_has_no_inputs_of_the_model() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("Add", ["c", "offset"], ["y"], name="add"),
    ]
    inputs = {"x": IMAGE, "offset": IMAGE}
    made = model(nodes, inputs, {"y": IMAGE}, {"w": graphs.draw(3, 3, 1, 1)})
    error = refused(made, ["conv"])
    assert error.message == "Add 'add' behind the cut needs the model's input 'offset'"
    assert find_end_nodes(made, only("Conv"), "int8") == []


def test_a_value_of_unknown_shape_cannot_cross() -> None:
    nodes = [node("Foreign", ["x"], ["h"], domain="com.example"), node("Relu", ["h"], ["y"])]
    made = model(nodes, {"x": IMAGE}, {"y": IMAGE})
    with pytest.raises(ExportError) as caught:
        cut(made, ["h"])
    assert caught.value.message.startswith("the model cannot be cut at 'h'")


def only(*kinds: str) -> Operators:
    table = {kind: Operator() for kind in kinds}
    return Operators(library="a library", source="this test", operators=table)


def test_end_nodes_are_the_last_that_the_library_can_make() -> None:
    made = detector()
    del made.graph.node[-1]
    del made.graph.output[1]
    assert find_end_nodes(made, SMALL, "int8") == ["class_rows"]
    assert find_end_nodes(made, only("Conv", "Relu"), "int8") == ["class_map", "box_map"]
    ends = find_end_nodes(made, only("Conv", "Relu"), "int8")
    x = graphs.draw(*IMAGE)
    for one, other in zip(through(made, ends, x=x), graphs.run(made, x=x), strict=True):
        assert np.array_equal(one, other)


def test_there_are_none_where_everything_runs_or_too_little_would() -> None:
    everything = only(*{n.op_type for n in detector().graph.node})
    assert find_end_nodes(detector(), everything, "int8") == []
    assert find_end_nodes(detector(), only("Relu", "Sigmoid"), "int8") == []
    without_relu = only("Conv", "Transpose", "Reshape", "Sigmoid", "GlobalAveragePool")
    assert find_end_nodes(detector(), without_relu, "int8") == []  # convolutions lie behind it


def test_the_heads_of_a_published_detector(data_folder: Path) -> None:
    """YuNet-n: convolutions on the device, what is behind them on the host."""
    whole, _ = simplify(read_onnx(data_folder / "models" / "yunet_n_640_640.onnx"))
    ends = find_end_nodes(whole, only("Conv", "Relu", "Add", "MaxPool", "Resize"), "int8")
    body, tail = cut(whole, ends)
    assert len(ends) == 12
    assert {n.op_type for n in tail.graph.node} <= {"Transpose", "Reshape", "Sigmoid"}
    assert {n.op_type for n in body.graph.node} <= {"Conv", "Relu", "Add", "MaxPool", "Resize"}
    value = whole.graph.input[0]
    x = 255 * np.abs(graphs.draw(*(d.dim_value for d in value.type.tensor_type.shape.dim)))
    found = through(whole, ends, **{value.name: x})
    for one, other in zip(found, graphs.run(whole, **{value.name: x}), strict=True):
        assert np.array_equal(one, other)
