"""An ONNX file read without the onnx package, and 2:4 sparsity found in its weights."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
import trt_nets as nets
from onnx import TensorProto, helper, numpy_helper

sys.path.append(str(tiny.ROOT / "compilers" / "trt_common"))
sys.path.append(str(tiny.ROOT / "compilers" / "trt"))
import trt_faults
import trt_onnx
import trt_sparsity

Array = tiny.Array
node = helper.make_node


def halved(*shape: int, axis: int, kind: type[np.generic] = np.float32) -> Array:
    """Random numbers with the first and last of each four along an axis 0."""
    values: Array = np.random.default_rng(5).integers(1, 9, shape).astype(kind)
    along = np.moveaxis(values, axis, -1)
    along[..., 0::4] = 0
    along[..., 3::4] = 0
    return values


def found(path: Path, nodes: list[onnx.NodeProto], **weights: Array) -> trt_sparsity.Sparsity:
    """What is found in a model of these nodes."""
    tensors = {name: numpy_helper.from_array(array, name) for name, array in weights.items()}
    model = nets.save(path, nodes, [1, 8, 4, 4], tensors)
    return trt_sparsity.sparsity(trt_onnx.read(model), path.parent)


def test_a_file_is_read_as_the_onnx_package_does(tmp_path: Path) -> None:
    path = tiny.conv_net(tmp_path / "net.onnx", batch="N")
    graph, model = trt_onnx.read(path), onnx.load(path)
    assert [(each["op"], each["name"]) for each in graph.nodes] == [
        (each.op_type, each.name) for each in model.graph.node
    ]
    assert [each["inputs"] for each in graph.nodes] == [list(n.input) for n in model.graph.node]
    assert graph.nodes[0]["attributes"] == {"pads": [1, 1, 1, 1]}
    assert graph.nodes[-1]["attributes"] == {"transB": 1}
    assert graph.inputs == [("x", [-1, 3, 16, 16])]
    for tensor in model.graph.initializer:
        mine = graph.constants[tensor.name]
        values = numpy_helper.to_array(tensor)
        assert mine["dims"] == list(values.shape)
        assert np.array_equal(trt_onnx.zeros(mine, tmp_path), values == 0)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16),
        *(TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.DOUBLE),
    ],
)
def test_zeros_are_found_in_every_type_of_weights(tmp_path: Path, kind: int, raw: bool) -> None:
    values = [0.0, 1.0, -0.0, -2.0, 3.0, 0.0]
    tensor = helper.make_tensor("w", kind, [2, 3], values)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "w")
        tensor.data_type = kind
    model = nets.save(tmp_path / "net.onnx", [node("Relu", ["x"], ["y"])], [1], {"w": tensor})
    mine = trt_onnx.zeros(trt_onnx.read(model).constants["w"], tmp_path)
    if kind == TensorProto.DOUBLE:
        assert mine is None
        return
    assert mine is not None
    assert mine.tolist() == [[True, False, True], [False, False, True]]


def test_constants_of_nodes_and_of_other_types_are_told_apart(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(halved(8, 8, 1, 1, axis=1), "")
    nodes = [
        node("Constant", [], ["w"], "weights", value=weights),
        node("Conv", ["x", "w"], ["y"], "product"),
    ]
    assert found(tmp_path / "net.onnx", nodes, other=np.array([1, 0])).names == ["product"]
    integers = helper.make_tensor("w", TensorProto.INT64, [2], [0, 1])
    model = nets.save(tmp_path / "b.onnx", [node("Relu", ["x"], ["y"])], [1], {"w": integers})
    assert trt_onnx.zeros(trt_onnx.read(model).constants["w"], tmp_path) is None


def test_the_pattern_is_along_the_axis_that_is_summed_over(tmp_path: Path) -> None:
    conv = [node("Conv", ["x", "w"], ["y"], "product")]
    assert found(tmp_path / "a.onnx", conv, w=halved(8, 8, 3, 3, axis=1)).names == ["product"]
    assert found(tmp_path / "b.onnx", conv, w=halved(8, 8, 3, 3, axis=0)).names == []
    # three input channels cannot be taken in fours
    assert found(tmp_path / "c.onnx", conv, w=np.zeros((8, 6, 1, 1), np.float32)).names == []
    almost = halved(8, 8, 3, 3, axis=1)
    almost[7, 0, 2, 2] = 1
    assert found(tmp_path / "d.onnx", conv, w=almost).names == []


@pytest.mark.parametrize(
    ("nodes", "axis"),
    [
        ([node("Gemm", ["x", "w"], ["y"], "product", transB=1)], 1),
        ([node("Gemm", ["x", "w"], ["y"], "product")], 0),
        ([node("MatMul", ["x", "w"], ["y"], "product")], 0),
        (
            [
                node("Transpose", ["w"], ["t"], "turn", perm=[1, 0]),
                node("MatMul", ["x", "t"], ["y"], "product"),
            ],
            1,
        ),
    ],
)
def test_products_of_matrices(tmp_path: Path, nodes: list[onnx.NodeProto], axis: int) -> None:
    right, wrong = halved(8, 8, axis=axis), halved(8, 8, axis=1 - axis)
    assert found(tmp_path / "a.onnx", nodes, w=right).names == ["product"]
    assert found(tmp_path / "b.onnx", nodes, w=wrong).names == []


def test_weights_are_found_behind_quantization_and_counted_without_activations(
    tmp_path: Path,
) -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["d"], "dq"),
        node("Conv", ["x", "d"], ["c"], "quantized"),
        node("MatMul", ["c", "c"], ["y"], "computed"),
    ]
    weights: dict[str, Any] = {"w": halved(8, 8, 1, 1, axis=1, kind=np.int8)}
    told = found(tmp_path / "net.onnx", nodes, **weights, s=scale, z=zero)
    assert (told.names, told.products) == (["quantized"], 1)
    assert str(told) == "1 of 1 layers (100 %)"
    assert str(trt_sparsity.Sparsity(0, [])) == "0 of 0 layers (0 %)"


def test_external_weights(tmp_path: Path) -> None:
    model = nets.sparse_net(tmp_path / "net.onnx", external=True)
    assert (tmp_path / "net.onnx.data").stat().st_size > 1000
    told = trt_sparsity.sparsity(trt_onnx.read(model), tmp_path)
    assert (told.names, told.products) == (["halved"], 3)


@pytest.mark.parametrize("data", [b"", b"\x3a\x7f", b"\x3a\x02\x0f\x01", b"\xff" * 40])
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(trt_faults.BadInput, match="is no ONNX model"):
        trt_onnx.read(str(path))
    with pytest.raises(trt_faults.BadInput, match="does not exist"):
        trt_onnx.read(str(tmp_path / "none.onnx"))
