"""Parameters and multiply-accumulates, against hand counts and published ones."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_graphs import model, node

from edgedeploy.graph.count import macs, parameters
from edgedeploy.graph.read import read_onnx
from edgedeploy.graph.shapes import fix_shapes
from edgedeploy.graph.simplify import simplify


def inferred(made: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_small_classifier_by_hand() -> None:
    made = inferred(graphs.classifier())
    assert parameters(made) == 6 * 3 * 9 + 6 + 5 * 6 + 5
    assert macs(made) == (8 * 8 * 6 * 3 * 9 + 5 * 6, None)


@given(
    groups=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    size=st.integers(4, 9),
)
def test_convolution_law(
    groups: int, channels: tuple[int, int], kernel: int, stride: int, size: int
) -> None:
    """Every output value takes kernel² products for each channel of its group."""
    wide, out = channels
    weight = zeros(groups * out, wide, kernel, kernel)
    conv = node("Conv", ["x", "w"], ["y"], group=groups, strides=[stride, stride])
    shape = (2, groups * wide, size, size)
    made = inferred(model([conv], {"x": shape}, {"y": (None,) * 4}, {"w": weight}))
    side = (size - kernel) // stride + 1
    expected = 2 * groups * out * side**2 * wide * kernel**2
    assert macs(made) == (expected, None)
    assert parameters(made) == weight.size


def test_transposed_convolution_counts_from_its_input() -> None:
    up = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], group=2)
    made = inferred(model([up], {"x": (1, 4, 5, 5)}, {"y": (None,) * 4}, {"w": zeros(4, 3, 2, 2)}))
    assert macs(made) == (4 * 5 * 5 * 3 * 2 * 2, None)


@pytest.mark.parametrize("turned", [0, 1])
def test_products_of_matrices(turned: int) -> None:
    first = (7, 4) if turned else (4, 7)
    gemm = node("Gemm", ["x", "w"], ["y"], transA=turned)
    made = inferred(model([gemm], {"x": first}, {"y": (4, 3)}, {"w": zeros(7, 3)}))
    assert macs(made) == (4 * 7 * 3, None)
    batched = node("MatMul", ["a", "b"], ["y"])
    made = inferred(model([batched], {"a": (2, 5, 4, 7), "b": (7, 3)}, {"y": (2, 5, 4, 3)}))
    assert macs(made) == (2 * 5 * 4 * 7 * 3, None)
    inner = node("MatMul", ["a", "b"], ["y"])
    made = inferred(model([inner], {"a": (9,), "b": (9,)}, {"y": ()}))
    assert macs(made) == (9, None)


def test_quantizing_changes_no_count() -> None:
    """Scales and zero points are no parameters; the int32 bias is one."""
    scale, zero = np.float32(0.1), np.uint8(3)
    per_channel = np.full(6, 0.1, np.float32)
    weights = {
        "w": np.ones((6, 3, 3, 3), np.int8),
        "ws": per_channel,
        "wz": np.zeros(6, np.int8),
        "b": np.ones(6, np.int32),
        "bs": per_channel,
        "bz": np.zeros(6, np.int32),
        "s": np.array(scale),
        "z": np.array(zero),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
        node("Conv", ["d", "wd", "bd"], ["y"], pads=[1, 1, 1, 1]),
    ]
    made = inferred(model(nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 6, 8, 8)}, weights))
    assert parameters(made) == 6 * 27 + 6
    assert macs(made) == (8 * 8 * 6 * 27, None)
    del weights["bs"], weights["bz"]
    fused = node(
        "QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["o"], pads=[1] * 4
    )
    nodes = [nodes[0], fused, node("DequantizeLinear", ["o", "s", "z"], ["y"])]
    made = inferred(model(nodes, {"x": (1, 3, 8, 8)}, {"y": (1, 6, 8, 8)}, weights))
    assert parameters(made) == 6 * 27 + 6
    assert macs(made) == (8 * 8 * 6 * 27, None)


def test_statistics_of_normalisation_are_no_parameters() -> None:
    names = ["x", "scale", "bias", "mean", "var"]
    norm = node("BatchNormalization", names, ["y"])
    weights = {name: np.ones(4, np.float32) for name in names[1:]}
    made = model([norm], {"x": (1, 4, 2, 2)}, {"y": (1, 4, 2, 2)}, weights)
    assert parameters(made) == 8
    assert macs(made) == (0, None)


def test_shapes_that_are_not_known_are_the_reason() -> None:
    made = model(
        [
            node("Foreign", ["x"], ["h"], domain="com.example"),
            node("Conv", ["h", "w"], ["y"], name="deep"),
        ],
        {"x": (1, 3, 4, 4)},
        {"y": (1, 2, 4, 4)},
        {"w": zeros(2, 3, 1, 1)},
    )
    counted, reason = macs(made)
    assert counted is None
    assert reason == "the shapes around Conv 'deep' are not known"


def test_what_cannot_be_counted_is_the_reason() -> None:
    einsum = node("Einsum", ["a", "b"], ["y"], equation="ij,jk->ik", name="mix")
    made = model([einsum], {"a": (2, 3), "b": (3, 4)}, {"y": (2, 4)})
    assert macs(made) == (None, "the products in Einsum 'mix' are not counted")
    product = node("MatMul", ["x", "x"], ["a"])
    bodies = [
        helper.make_graph([product], "body", [], [graphs.value("a", (2, 2))]) for _ in range(2)
    ]
    choice = node("If", ["f"], ["y"], then_branch=bodies[0], else_branch=bodies[1], name="choice")
    made = model([choice], {"x": (2, 2)}, {"y": (2, 2)}, {"f": np.array(True)})
    assert macs(made) == (None, "the products in If 'choice' are not counted")


def test_a_shared_weight_counts_once_and_integers_not_at_all() -> None:
    weights = {"w": zeros(2, 2), "one": np.array(1, np.float32), "shape": np.array([2, 2])}
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Mul", ["b", "one"], ["c"]),
        node("Reshape", ["c", "shape"], ["y"]),
    ]
    assert parameters(model(nodes, {"x": (2, 2)}, {"y": (2, 2)}, weights)) == 4


def test_published_counts_of_yunet(data_folder: Path) -> None:
    """Published: 75,856 parameters, here with normalisation folded; 135.6 MMACs at 320x320."""
    given = read_onnx(data_folder / "models" / "yunet_n_dynamic.onnx")
    fixed, _ = fix_shapes(given, {"input": (1, 3, 320, 320)})
    made, note = simplify(fixed)
    assert note is None
    assert round((macs(made)[0] or 0) / 1e6, 1) == 135.6
    assert parameters(fixed) == 73_840
    whole, _ = simplify(read_onnx(data_folder / "models" / "yunet_n_640_640.onnx"))
    assert macs(whole)[0] == 4 * (macs(made)[0] or 0)


def test_counts_of_an_already_quantized_mobilenet(data_folder: Path) -> None:
    """2,236,682 of ten classes, less the 17,056 that folding normalisation takes off."""
    given = read_onnx(data_folder / "models" / "mbv2_cifar10_int8.onnx")
    assert parameters(given) == 2_236_682 - 17_056
    counted, reason = macs(given)
    assert counted is None
    assert "QLinearConv" in str(reason)


def test_initializers_of_any_rank(tmp_path: Path) -> None:
    made = graphs.classifier()
    made.graph.initializer.append(numpy_helper.from_array(zeros(2, 3, 4), "extra"))
    path = graphs.saved(made, tmp_path / "m.onnx")
    assert parameters(read_onnx(path)) == 203 + math.prod((2, 3, 4))
