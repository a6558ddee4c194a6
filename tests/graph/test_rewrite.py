"""Rewrites by their names, in their order."""

import onnx_graphs as graphs
import pytest
from onnx_graphs import model, node

from edgedeploy.errors import InputError
from edgedeploy.graph.rewrite import REWRITES, rewrite


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        rewrite(graphs.classifier(), ["abs_free", "fuse_gelo"])
    assert caught.value.message == "rewrite 'fuse_gelo' is not known"
    assert caught.value.hint == "Did you mean 'fuse_gelu'?"


def test_a_model_with_nothing_to_rewrite_is_the_same_object() -> None:
    made = graphs.classifier()
    found, notes = rewrite(made, REWRITES)
    assert found is made
    assert notes == []
    assert rewrite(made, [])[0] is made


def test_notes_name_the_rewrite() -> None:
    made = model([node("Abs", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)})
    found, notes = rewrite(made, ["fuse_gelu", "abs_free"])
    assert notes == ["abs_free: 1 Abs written without Abs"]
    assert {value.name for value in found.graph.value_info} >= {"y_minus", "y_above", "y_below"}
    assert made.graph.node[0].op_type == "Abs"
