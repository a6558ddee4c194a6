"""GELU written with Erf becomes one node, in every spelling, and the outputs stay."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import model, node

from edgedeploy.graph.fuse_gelu import fuse_gelu
from edgedeploy.graph.read import opset_of
from edgedeploy.graph.simplify import simplify

SIGMOID = node("Sigmoid", ["x"], ["a"])
NUMBERS = {
    "root2": np.array(math.sqrt(2.0), np.float32),
    "half_root": np.array([math.sqrt(0.5)], np.float32),
    "one": np.array(1.0, np.float32),
    "half": np.array(0.5, np.float32),
    "two": np.array(2.0, np.float32),
    "wrong": np.array(0.7, np.float32),
}
# what follows 1 + erf, by the names x (the input) and p (1 + erf); the last makes y
PRODUCTS: dict[str, Sequence[tuple[str, str, str, str]]] = {
    "(x p) half": [("Mul", "a", "p", "q"), ("Mul", "q", "half", "y")],
    "half (p x)": [("Mul", "p", "a", "q"), ("Mul", "half", "q", "y")],
    "(x half) p": [("Mul", "a", "half", "q"), ("Mul", "q", "p", "y")],
    "p (half x)": [("Mul", "half", "a", "q"), ("Mul", "p", "q", "y")],
    "x (half p)": [("Mul", "half", "p", "q"), ("Mul", "a", "q", "y")],
    "(p half) x": [("Mul", "p", "half", "q"), ("Mul", "q", "a", "y")],
    "(x p) / 2": [("Mul", "a", "p", "q"), ("Div", "q", "two", "y")],
    "(x / 2) p": [("Div", "a", "two", "q"), ("Mul", "q", "p", "y")],
    "x (p / 2)": [("Div", "p", "two", "q"), ("Mul", "a", "q", "y")],
}
SCALES = {
    "x / root2": ("Div", "a", "root2"),
    "x half_root": ("Mul", "a", "half_root"),
    "half_root x": ("Mul", "half_root", "a"),
}


def spelled(
    scale: tuple[str, str, str],
    product: Sequence[tuple[str, str, str, str]],
    shape: tuple[int, ...] = (2, 3),
    *,
    one_first: bool = False,
    opset: int = 18,
    outputs: Sequence[str] = ("y",),
) -> onnx.ModelProto:
    """A GELU of sigmoid(x) in one spelling; the constants are weights."""
    nodes = [
        SIGMOID,
        node(scale[0], scale[1:], ["u"]),
        node("Erf", ["u"], ["e"]),
        node("Add", ["one", "e"] if one_first else ["e", "one"], ["p"]),
        *(node(kind, [first, second], [made]) for kind, first, second, made in product),
    ]
    return model(nodes, {"x": shape}, dict.fromkeys(outputs, shape), NUMBERS, opset=opset)


def kinds(made: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in made.graph.node]


def same(before: onnx.ModelProto, after: onnx.ModelProto, **inputs: Any) -> None:
    found, expected = graphs.run(after, **inputs), graphs.run(before, **inputs)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_spelling_becomes_one_node(scale: str, product: str) -> None:
    made = spelled(SCALES[scale], PRODUCTS[product], one_first=len(product) % 2 == 0)
    fused, notes = fuse_gelu(made)
    assert kinds(fused) == ["Sigmoid", "Gelu"]
    assert notes[-1] == "1 GELU written with Erf fused to one Gelu node each"
    assert opset_of(fused) == 20
    assert not fused.graph.initializer
    onnx.checker.check_model(fused, full_check=True)
    same(made, fused, x=8 * graphs.draw(2, 3))


@settings(deadline=None, max_examples=25)
@given(
    scale=st.sampled_from(sorted(SCALES)),
    product=st.sampled_from(sorted(PRODUCTS)),
    one_first=st.booleans(),
    opset=st.sampled_from([13, 15, 18, 20]),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_the_outputs_stay_over_shapes_and_values(
    *, scale: str, product: str, one_first: bool, opset: int, shape: list[int], seed: int
) -> None:
    made = spelled(SCALES[scale], PRODUCTS[product], tuple(shape), one_first=one_first, opset=opset)
    fused, _ = fuse_gelu(made)
    assert "Erf" not in kinds(fused)
    same(made, fused, x=10 * graphs.draw(*shape, seed=seed))


class Head(torch.nn.Module):
    """A product, a GELU, and another of both."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(6, 5), torch.nn.Linear(5, 4)
        self.act = torch.nn.GELU(approximate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self.second(self.act(self.first(x))))


def exported(opset: int, *, dynamo: bool, approximate: str = "none") -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.manual_seed(0)
    module = Head(approximate).eval()
    torch.onnx.export(
        module,
        (torch.zeros(2, 6),),
        buffer,
        input_names=["x"],
        output_names=["y"],
        opset_version=opset,
        dynamo=dynamo,
        verbose=False,
    )
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 17), (False, 20), (True, 18)])
def test_what_both_exporters_write(dynamo: bool, opset: int) -> None:
    made = exported(opset, dynamo=dynamo)
    fused, notes = fuse_gelu(made)
    assert kinds(fused) == ["Gemm", "Gelu", "Gemm", "Gelu"]
    assert bool(notes) == (opset < 20)
    same(made, fused, x=3 * graphs.draw(2, 6))


@pytest.mark.parametrize(
    "product",
    [
        [("Mul", "a", "p", "y")],
        [("Mul", "a", "p", "q"), ("Mul", "q", "two", "y")],
        [("Mul", "a", "p", "q"), ("Sub", "q", "half", "y")],
        [("Mul", "a", "p", "q"), ("Mul", "q", "half", "r"), ("Sub", "q", "r", "y")],
        [("Mul", "p", "two", "q"), ("Mul", "q", "a", "y")],
    ],
)
def test_a_missing_half_is_made_up_for(product: Sequence[tuple[str, str, str, str]]) -> None:
    made = spelled(SCALES["x / root2"], product)
    fused, _ = fuse_gelu(made)
    assert "Erf" not in kinds(fused)
    assert kinds(fused)[:3] == ["Sigmoid", "Gelu", "Mul"]
    onnx.checker.check_model(fused, full_check=True)
    same(made, fused, x=8 * graphs.draw(2, 3))


@pytest.mark.filterwarnings("ignore")
def test_a_half_that_a_simplifier_put_into_the_next_weights() -> None:
    buffer = io.BytesIO()
    torch.manual_seed(0)
    stages = [torch.nn.Conv2d(3, 4, 3), torch.nn.GELU(), torch.nn.Conv2d(4, 2, 1)]
    network = torch.nn.Sequential(*stages).eval()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 8, 8),),
        buffer,
        input_names=["x"],
        opset_version=18,
        dynamo=False,
    )
    made, _ = simplify(onnx.load_from_string(buffer.getvalue()))
    assert kinds(made) == ["Conv", "Div", "Erf", "Add", "Mul", "Conv"]
    fused, _ = fuse_gelu(made)
    assert kinds(fused) == ["Conv", "Gelu", "Mul", "Conv"]
    assert kinds(simplify(fused)[0]) == ["Conv", "Gelu", "Conv"]
    same(made, fused, x=graphs.draw(1, 3, 8, 8))


@pytest.mark.filterwarnings("ignore")
def test_the_approximation_by_tanh_is_another_function() -> None:
    made = exported(17, dynamo=False, approximate="tanh")
    fused, _ = fuse_gelu(made)
    assert kinds(fused).count("Gelu") == 1
    assert "Tanh" in kinds(fused)


@pytest.mark.parametrize(
    ("scale", "product"),
    [
        (("Mul", "a", "wrong"), PRODUCTS["(x p) half"]),
        (("Mul", "a", "half"), PRODUCTS["(x p) half"]),
        (SCALES["x / root2"], [("Mul", "x", "p", "q"), ("Mul", "q", "half", "y")]),
        (SCALES["x / root2"], [("Mul", "half", "p", "y")]),
    ],
)
def test_what_is_no_gelu_stays_as_it_is(
    scale: tuple[str, str, str], product: Sequence[tuple[str, str, str, str]]
) -> None:
    made = spelled(scale, product)
    kept, notes = fuse_gelu(made)
    assert kept is made
    assert notes == []


def test_a_model_without_erf_is_returned_unchanged() -> None:
    made = graphs.classifier()
    assert fuse_gelu(made) == (made, [])


def test_parts_that_something_else_needs_stay() -> None:
    made = spelled(SCALES["x / root2"], PRODUCTS["(x p) half"], outputs=["y", "e"])
    fused, _ = fuse_gelu(made)
    assert sorted(kinds(fused)) == ["Div", "Erf", "Gelu", "Sigmoid"]
    same(made, fused, x=graphs.draw(2, 3))


def test_a_model_that_cannot_be_raised_keeps_its_erf() -> None:
    made = spelled(SCALES["x / root2"], PRODUCTS["(x p) half"])
    made.graph.node.append(node("Frobnicate", ["y"], ["z"]))
    made.graph.output.append(graphs.value("z", (2, 3)))
    kept, notes = fuse_gelu(made)
    assert kept is made
    assert notes[-1] == "GELU left as Erf: a Gelu node needs opset 20"
