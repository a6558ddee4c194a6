"""What is caught in an exported graph that looks well and is not."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import model, node

from edgedeploy.errors import ExportError
from edgedeploy.graph.check import check_graph, reached_inputs

ONES = np.ones((1, 3), np.float32)


def refused(made: onnx.ModelProto) -> ExportError:
    with pytest.raises(ExportError) as caught:
        check_graph(made, Path())
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


def constant(name: str) -> onnx.NodeProto:
    made: onnx.NodeProto = node("Constant", [], [name], value=numpy_helper.from_array(ONES))
    return made


def branching(*, inputs_in_branch: bool) -> onnx.ModelProto:
    """y is x or 2 x by the sign of its sum, in the bodies of an If; or a constant in both."""
    inner = node("Identity", ["x"], ["a"]) if inputs_in_branch else constant("a")
    other = node("Add", ["x", "x"], ["b"]) if inputs_in_branch else constant("b")
    bodies = [
        helper.make_graph([body], "body", [], [graphs.value(body.output[0], (1, 3))])
        for body in (inner, other)
    ]
    nodes = [node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1])]
    return model(nodes, {"x": (1, 3)}, {"y": (1, 3)}, {"flag": np.array(True)})


def test_a_sound_model_passes() -> None:
    check_graph(graphs.classifier(), Path())


def test_a_model_without_input_is_a_constant() -> None:
    made = model([constant("y")], {}, {"y": (1, 3)})
    assert refused(made).message == "the model has no input: it is a constant"


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    made = model([node("Relu", ["w"], ["y"])], {"w": (1, 3)}, {"y": (1, 3)}, {"w": ONES})
    assert "no input" in refused(made).message


def test_a_model_without_output() -> None:
    made = model([node("Relu", ["x"], ["y"])], {"x": (1, 3)}, {})
    assert "no output" in refused(made).message


@pytest.mark.parametrize("dead", ["y", "z"])
def test_an_output_that_depends_on_no_input_is_named(dead: str) -> None:
    live = "z" if dead == "y" else "y"
    nodes = [constant("c"), node("Neg", ["c"], [dead]), node("Relu", ["x"], [live])]
    made = model(nodes, {"x": (1, 3)}, {"y": (1, 3), "z": (1, 3)})
    error = refused(made)
    assert error.message == f"output {dead!r} depends on no input: the export baked in a constant"
    assert ".item()" in error.hint


def test_dependence_is_followed_into_control_flow() -> None:
    made = branching(inputs_in_branch=True)
    assert reached_inputs(made, "y") == {"x"}
    check_graph(made, Path())
    assert "depends on no input" in refused(branching(inputs_in_branch=False)).message


def test_inputs_that_each_output_depends_on() -> None:
    nodes = [node("Add", ["a", "b"], ["s"]), node("Relu", ["s"], ["y"]), node("Neg", ["c"], ["z"])]
    made = model(nodes, dict.fromkeys("abc", (2,)), {"y": (2,), "z": (2,)})
    assert reached_inputs(made, "y") == {"a", "b"}
    assert reached_inputs(made, "z") == {"c"}
    assert reached_inputs(made, "b") == {"b"}


@pytest.mark.parametrize("shape", [("batch", 3), (1, None), (1, -1)])
def test_a_symbolic_dimension_left_is_named(shape: Any) -> None:
    error = refused(graphs.relu(shape))
    assert error.message.startswith("input 'x' keeps a symbolic dimension: (")
    assert "--shape x=" in error.hint


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_nan_in_weights_is_named(kind: Any) -> None:
    weight = np.ones((1, 3), kind)
    made = graphs.relu((1, 3))
    made.graph.initializer.append(numpy_helper.from_array(weight, "good"))
    check_graph(made, Path())
    weight[0, 1] = np.nan
    made.graph.initializer.append(numpy_helper.from_array(weight, "head.weight"))
    assert refused(made).message == "weight 'head.weight' holds NaN"


def test_infinite_weights_are_allowed_as_masks_have_them() -> None:
    mask = np.array([[0, -np.inf, 0]], np.float32)
    made = model([node("Add", ["x", "m"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)}, {"m": mask})
    check_graph(made, Path())


def test_nan_in_a_constant_inside_of_a_branch_is_found() -> None:
    made = branching(inputs_in_branch=True)
    bad = numpy_helper.from_array(np.array([[np.nan, 1, 1]], np.float32), "hidden")
    body = made.graph.node[0].attribute[0].g
    body.node.insert(0, node("Constant", [], ["c"], value=bad))
    assert refused(made).message == "weight 'hidden' holds NaN"


def test_an_unknown_operator_is_no_valid_onnx() -> None:
    made = model([node("Frobnicate", ["x"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)})
    message = refused(made).message
    assert message.startswith("the model is not valid ONNX (opset 18): ")
    assert "Frobnicate" in message


def test_a_value_nobody_makes_is_no_valid_onnx() -> None:
    made = model([node("Add", ["x", "ghost"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)})
    assert "ghost" in refused(made).message or "topological" in refused(made).message


def test_integer_weights_are_not_held_for_nan() -> None:
    index = numpy_helper.from_array(np.array([0, 1]), "index")
    made = model([node("Gather", ["x", "index"], ["y"])], {"x": (3,)}, {"y": (2,)})
    made.graph.initializer.append(index)
    assert made.graph.initializer[0].data_type == TensorProto.INT64
    check_graph(made, Path())
