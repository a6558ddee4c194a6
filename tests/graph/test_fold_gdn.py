"""GDN with folded parameters: a plain 1x1 Conv, and the outputs stay."""

import io

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import model, node

from edgedeploy.graph.abs_free import abs_free
from edgedeploy.graph.fold_gdn import fold_gdn
from edgedeploy.graph.rewrite import rewrite
from edgedeploy.graph.simplify import simplify

PEDESTAL = 2.0**-36


class Normalise(torch.nn.Module):
    """GDN of `power` 1 or 2 with parameters kept positive: max(p, bound)^2 - pedestal."""

    def __init__(self, channels: int, power: int, *, inverse: bool, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.power, self.inverse = power, inverse
        beta = 1 + torch.rand(channels, generator=draw)
        gamma = 0.1 * torch.eye(channels) + 0.05 * torch.rand(channels, channels, generator=draw)
        self.beta = torch.nn.Parameter(torch.sqrt(beta + PEDESTAL))
        self.gamma = torch.nn.Parameter(torch.sqrt(gamma + PEDESTAL))
        self.register_buffer("beta_bound", torch.tensor([(1e-6 + PEDESTAL) ** 0.5]))
        self.register_buffer("gamma_bound", torch.tensor([PEDESTAL**0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beta = torch.max(self.beta, self.beta_bound) ** 2 - PEDESTAL
        gamma = torch.max(self.gamma, self.gamma_bound) ** 2 - PEDESTAL
        size = x.size(1)
        source = x.abs() if self.power == 1 else x**2
        norm = torch.nn.functional.conv2d(source, gamma.reshape(size, size, 1, 1), beta)
        if self.power == 2:
            norm = norm.sqrt() if self.inverse else norm.rsqrt()
        elif not self.inverse:
            norm = 1.0 / norm
        return x * norm


def exported(module: torch.nn.Module, shape: tuple[int, ...], *, dynamo: bool) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        module.eval(),
        (torch.zeros(shape),),
        buffer,
        input_names=["x"],
        output_names=["y"],
        opset_version=18,
        dynamo=dynamo,
        verbose=False,
    )
    return onnx.load_from_string(buffer.getvalue())


def kinds(made: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in made.graph.node if n.op_type != "Constant"]


def same(before: onnx.ModelProto, after: onnx.ModelProto, x: graphs.Array) -> None:
    expected, found = graphs.run(before, x=x)[0], graphs.run(after, x=x)[0]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize(
    ("power", "inverse", "expected"),
    [
        (1, False, ["Abs", "Conv", "Div"]),
        (1, True, ["Abs", "Conv", "Mul"]),
        (2, False, ["Mul", "Conv", "Sqrt", "Div"]),
        (2, True, ["Mul", "Conv", "Sqrt", "Mul"]),
    ],
)
def test_what_exporters_write(power: int, inverse: bool, expected: list[str], dynamo: bool) -> None:
    made = exported(Normalise(6, power, inverse=inverse), (1, 6, 5, 7), dynamo=dynamo)
    folded, notes = fold_gdn(made)
    assert kinds(folded) == expected
    # one exporter folds constants itself, and IGDN1 is then what it should be
    done = dynamo and power == 1 and inverse
    assert notes == ([] if done else ["1 GDN folded to a 1x1 Conv each"])
    conv = next(n for n in folded.graph.node if n.op_type == "Conv")
    weights = {t.name: tuple(t.dims) for t in folded.graph.initializer}
    assert [weights[name] for name in conv.input[1:]] == [(6, 6, 1, 1), (6,)]
    onnx.checker.check_model(folded, full_check=True)
    same(made, folded, 3 * graphs.draw(1, 6, 5, 7))
    assert fold_gdn(folded)[0] is folded


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=8)
@given(
    channels=st.integers(1, 7),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    power=st.sampled_from([1, 2]),
    inverse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_outputs_stay_over_shapes_and_values(
    channels: int, size: tuple[int, int], power: int, inverse: bool, seed: int
) -> None:
    shape = (2, channels, *size)
    made = exported(Normalise(channels, power, inverse=inverse, seed=seed), shape, dynamo=False)
    folded, _ = fold_gdn(made)
    same(made, folded, 4 * graphs.draw(*shape, seed=seed))


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_of_two_after_simplifying_loses_its_reciprocals_and_abs() -> None:
    torch.manual_seed(1)
    encoder = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False),
        Normalise(8, 1, inverse=False),
        torch.nn.Conv2d(8, 4, 5, stride=2, padding=2, bias=False),
        Normalise(4, 1, inverse=False, seed=1),
        torch.nn.Conv2d(4, 2, 2, bias=False),
    )
    made, _ = simplify(exported(encoder, (1, 3, 24, 24), dynamo=False))
    written, notes = rewrite(made, ["fold_gdn", "abs_free"])
    each = ["Conv", "PRelu", "Conv", "Div"]
    assert kinds(written) == [*each, *each, "Conv"]
    assert notes == [
        "fold_gdn: 2 GDN folded to a 1x1 Conv each",
        "abs_free: 2 Abs written without Abs",
    ]
    same(made, written, graphs.draw(1, 3, 24, 24))


def test_parameters_that_depend_on_an_input_are_none() -> None:
    nodes = [
        node("Abs", ["x"], ["a"]),
        node("Conv", ["a", "gamma"], ["n"]),
        node("Div", ["x", "n"], ["y"]),
    ]
    made = model(nodes, {"x": (1, 2, 3, 3), "gamma": (2, 2, 1, 1)}, {"y": (1, 2, 3, 3)})
    assert fold_gdn(made)[0] is made


def test_other_convolutions_of_a_magnitude_stay() -> None:
    nodes = [node("Abs", ["x"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    made = model(nodes, {"x": (1, 2, 3, 3)}, {"y": (1, 2, 3, 3)}, {"w": graphs.draw(2, 2, 1, 1)})
    assert fold_gdn(made) == (made, [])
    assert fold_gdn(graphs.classifier())[1] == []
    assert abs_free(made)[1] == ["1 Abs written without Abs"]
