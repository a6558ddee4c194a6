"""Operator tables: what a library cannot run is named by node, with why and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import TensorProto
from onnx_graphs import model, node

from edgedeploy.errors import InputError, UnsupportedError
from edgedeploy.graph.operators import check_operators, read_operators, unsupported
from edgedeploy.graph.rewrite import rewrite
from edgedeploy.graph.simplify import simplify
from edgedeploy.share import shared_files
from edgedeploy.zoo import mobilenet, resnet_cifar

TABLE = Path(__file__).parents[2] / "compilers" / "espdl.operators.toml"
IMAGE = (1, 8, 6, 6)
Shape = tuple[int, ...]


def one(
    kind: str,
    inputs: dict[str, Shape],
    weights: dict[str, graphs.Array] | None = None,
    *,
    names: list[str] | None = None,
    opset: int = 18,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node, which takes inputs and weights in their order, or as named."""
    given = names or [*inputs, *(weights or {})]
    made = node(kind, given, ["y"], name="the_node", **attributes)
    return model([made], inputs, {"y": (None,)}, weights, opset=opset)


def why(made: onnx.ModelProto, precision: str = "int8") -> str:
    return "; ".join(refusal.why for refusal in unsupported(made, TABLE, precision))


def w(*shape: int) -> graphs.Array:
    return graphs.draw(*shape)


def test_the_table_lies_beside_its_compiler_and_says_where_it_is_from() -> None:
    table = read_operators(TABLE)
    assert "espdl" in shared_files("compilers", ".py") or TABLE.is_file()
    assert "operator_support_state.md" in table.source
    assert len(table.operators) > 70
    for name, operator in table.operators.items():
        assert onnx.defs.has(name) or name in {"Swish"}, name
        lacking = bool(operator.lacking)
        assert not lacking or operator.remedy or table.remedy


def test_the_error_names_node_reason_and_remedy() -> None:
    made = one("Abs", {"x": IMAGE})
    with pytest.raises(UnsupportedError) as caught:
        check_operators(made, TABLE, "int8")
    assert caught.value.message == (
        "ESP-DL 3.3.9 cannot run Abs 'the_node': the library has no Abs; esp-ppq would write it as "
        "float"
    )
    assert caught.value.hint == 'Put rewrites = ["abs_free"] into the target.'
    assert caught.value.exit_code == 4
    check_operators(rewrite(made, ["abs_free"])[0], TABLE, "int8")


def test_many_refusals_are_counted_and_remedies_told_once() -> None:
    nodes = [node("Abs", [f"v{i}"], [f"v{i + 1}"], name=f"abs{i}") for i in range(7)]
    made = model(nodes, {"v0": IMAGE}, {"v7": IMAGE})
    with pytest.raises(UnsupportedError) as caught:
        check_operators(made, TABLE, "int8")
    assert "Abs 'abs3'" in caught.value.message
    assert "abs4" not in caught.value.message
    assert caught.value.message.endswith("; and 3 nodes more")
    assert caught.value.hint.count("abs_free") == 1


@pytest.mark.parametrize(
    "kind",
    [
        *("ArgMax", "Attention", "Ceil", "Celu", "CumSum", "DFT", "Det", "Einsum", "Erf", "Expand"),
        *("Floor", "GlobalMaxPool", "GridSample", "GroupNormalization", "InstanceNormalization"),
        *("LRN", "Max", "Min", "Mish", "RNN", "Reciprocal", "ReduceProd", "ReverseSequence"),
        *("Round", "ScatterElements", "Selu", "Sign", "Sin", "Softplus", "Sum", "Tile", "TopK"),
        "Where",
    ],
)
def test_what_esp_ppq_passes_or_fails_on_is_unsupported(kind: str) -> None:
    made = one(kind, {"x": IMAGE, "z": IMAGE}, opset=18)
    (refusal,) = unsupported(made, TABLE, "int8")
    assert refusal.op == kind
    assert refusal.node == "the_node"
    assert refusal.why
    assert refusal.remedy
    assert unsupported(made, TABLE, "int16") == (refusal,)


def test_an_operator_of_another_domain() -> None:
    made = one("Gelu", {"x": IMAGE}, domain="com.microsoft")
    assert "of the domain 'com.microsoft'" in why(made)


CONV = {"x": IMAGE}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (one("Conv", CONV, {"w": w(8, 8, 3, 3)}), ""),
        (one("Conv", CONV, {"w": w(8, 1, 3, 3)}, group=8), ""),
        (
            one("Conv", CONV, {"w": w(8, 4, 3, 3)}, group=2),
            "2 groups, the library takes 1 or its 8",
        ),
        (one("Conv", CONV, {"w": w(16, 1, 3, 3)}, group=8), "it makes 2 channels of each"),
        (one("Conv", {"x": (1, 4, 5, 5, 5)}, {"w": w(4, 4, 3, 3, 3)}), "has 5 axes"),
        (one("Conv", {"x": IMAGE, "v": (8, 8, 3, 3)}), "its input 'v' is computed"),
        (one("ConvTranspose", CONV, {"w": w(8, 4, 3, 3)}, strides=[2, 2]), ""),
        (one("ConvTranspose", CONV, {"w": w(8, 4, 3, 3)}, group=2), "2 groups"),
        (one("MaxPool", CONV, kernel_shape=[2, 2]), ""),
        (one("MaxPool", CONV, kernel_shape=[2, 2], dilations=[2, 2]), "its dilations is [2, 2]"),
        (one("MaxPool", CONV, kernel_shape=[3, 3], ceil_mode=1), "its ceil_mode is 1"),
        (one("AveragePool", CONV, kernel_shape=[3, 3], pads=[1] * 4), "count_include_pad 0"),
        (one("AveragePool", CONV, kernel_shape=[3, 3], pads=[0] * 4), ""),
        (one("AveragePool", CONV, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), ""),
        (one("Gemm", {"x": (1, 24)}, {"w": w(24, 8), "b": w(8)}), ""),
        (one("Gemm", {"x": (1, 24)}, {"w": w(24, 8), "b": w(8)}, alpha=2.0), "its alpha is 2.0"),
        (one("Gemm", {"x": (1, 24)}, {"w": w(24, 8), "b": w(8)}, beta=0.5), "its beta is 0.5"),
        (one("Add", {"x": (1, 2, 3, 4, 5), "z": (1, 2, 3, 4, 5)}), "has 5 axes"),
        (one("PRelu", {"x": (1, 24)}, {"s": w(24)}), "has 2 axes"),
        (
            one("Pad", CONV, {"p": np.array([0, 0, 1, 1] * 2)}, mode="wrap", opset=19),
            "mode is wrap",
        ),
        (one("Pad", CONV, {"p": np.array([0, 0, 1, 1] * 2)}, mode="reflect"), ""),
        (one("Gelu", CONV, opset=20), ""),
        (one("Gelu", CONV, opset=20, approximate="tanh"), "its approximate is tanh"),
        (one("Mod", {"x": IMAGE, "z": IMAGE}, fmod=1), ""),
        (one("Mod", {"x": IMAGE, "z": IMAGE}), "its fmod is 0"),
        (one("ReduceMean", CONV, {"a": np.array([2, 3])}), "its keepdims is not written out"),
        (one("ReduceMean", CONV, {"a": np.array([2, 3])}, keepdims=1), ""),
        (one("Reshape", CONV, {"s": np.array([1, -1])}), ""),
    ],
)
def test_restrictions_of_an_operator(made: onnx.ModelProto, reason: str) -> None:
    found = why(made)
    assert (reason in found) if reason else not found


@pytest.mark.parametrize(
    ("mode", "coordinates", "allowed"),
    [
        ("nearest", "asymmetric", True),
        ("nearest", "half_pixel", True),
        ("nearest", "align_corners", False),
        ("linear", "half_pixel", True),
        ("linear", "align_corners", True),
        ("linear", "asymmetric", False),
        ("cubic", "half_pixel", False),
    ],
)
def test_resizing_in_the_modes_the_library_has(mode: str, coordinates: str, allowed: bool) -> None:
    scales = {"s": np.array([1, 1, 2, 2], np.float32)}
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if (mode, coordinates) == ("nearest", "asymmetric"):
        attributes["nearest_mode"] = "floor"
    made = one("Resize", CONV, scales, names=["x", "", "s"], **attributes)
    assert (why(made) == "") == allowed
    assert (why(made, "mixed") == "") == allowed
    refusal = unsupported(made, TABLE, "int16")[0]
    assert refusal.why == "it exists in int8, mixed, not in int16"
    assert refusal.remedy == "Compile in int8, mixed."


def test_recurrent_layers_need_their_state_as_an_input() -> None:
    weights = {"w": w(1, 12, 8), "r": w(1, 12, 4), "b": w(1, 24)}
    names = ["x", "w", "r", "b", "", "h"]
    inputs = {"x": (5, 1, 8), "h": (1, 1, 4)}
    shared = {"hidden_size": 4, "linear_before_reset": 1}
    assert why(one("GRU", inputs, weights, names=names, **shared)) == ""
    without = one("GRU", {"x": (5, 1, 8)}, weights, **shared)
    assert "its input 5 must be an input of the model" in why(without)
    assert "linear_before_reset is 0" in why(one("GRU", inputs, weights, names=names))


def test_floats_of_another_width() -> None:
    half = model([node("Relu", ["x"], ["y"])], {}, {})
    half.graph.input.append(graphs.value("x", IMAGE, TensorProto.FLOAT16))
    half.graph.output.append(graphs.value("y", IMAGE, TensorProto.FLOAT16))
    assert why(half) == "'x' is float16, the toolchain takes FLOAT"


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[onnx.ModelProto]:
    """MobileNetV2 and ResNet20 as exported."""
    import torch

    path = tmp_path_factory.mktemp("networks") / "m.onnx"
    found = []
    for network in (mobilenet.build(10, 0.35), resnet_cifar.build()):
        torch.onnx.export(
            network.eval(), (torch.zeros(1, 3, 32, 32),), path, opset_version=18, dynamo=False
        )
        found.append(simplify(onnx.load(path))[0])
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "int16", "mixed"])
def test_networks_that_run_there_pass(precision: str, networks: list[onnx.ModelProto]) -> None:
    for network in networks:
        assert unsupported(network, TABLE, precision) == ()
        check_operators(network, TABLE, precision)


def test_a_wrong_key_of_a_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.operators.toml"
    path.write_text('library = "l"\nsource = "s"\n[operators.Conv]\nrank = [4]\n')
    with pytest.raises(InputError) as caught:
        read_operators(path)
    assert "unknown field `rank`" in caught.value.message


def test_a_library_without_restrictions_takes_it_all(tmp_path: Path) -> None:
    path = tmp_path / "x.operators.toml"
    path.write_text('library = "l"\nsource = "s"\n[operators.Relu]\n[operators.Conv]\n')
    assert unsupported(graphs.relu(), path, "fp32") == ()
    refusal = unsupported(one("Tanh", CONV), path, "fp32")[0]
    assert refusal.why == "the library has no such operator"
