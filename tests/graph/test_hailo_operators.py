"""What the Dataflow Compiler takes: networks that pass whole, heads that are cut, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx_graphs import model, node

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.cut import cut, find_end_nodes
from edgedeploy.graph.operators import (
    Operator,
    Operators,
    check_operators,
    read_operators,
    unsupported,
)
from edgedeploy.graph.read import read_onnx
from edgedeploy.graph.simplify import simplify
from edgedeploy.zoo import cropnet, digits, mobilenet, pmrid, resnet_cifar, yunet

TABLE = Path(__file__).parents[2] / "compilers" / "hailo.operators.toml"
IMAGE = (1, 8, 6, 6)
OPSET = 17
Shape = tuple[int, ...]
Weights = dict[str, graphs.Array]


def w(*shape: int) -> graphs.Array:
    return graphs.draw(*shape)


def whole_numbers(*values: int) -> graphs.Array:
    return np.array(values, np.int64)


def one(
    kind: str,
    inputs: dict[str, Shape],
    weights: Weights | None = None,
    *,
    names: list[str] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node, which takes inputs and weights in their order, or as named."""
    given = names or [*inputs, *(weights or {})]
    made = node(kind, given, ["y"], name="the_node", **attributes)
    return model([made], inputs, {"y": (None,)}, weights, opset=OPSET)


def why(made: onnx.ModelProto) -> str:
    return "; ".join(refusal.why for refusal in unsupported(made, TABLE, "int8"))


def through(made: onnx.ModelProto, ends: list[str], **inputs: graphs.Array) -> list[graphs.Array]:
    """A model's outputs by its body and then its tail."""
    body, tail = cut(made, ends)
    names = [value.name for value in body.graph.output]
    return graphs.run(tail, **dict(zip(names, graphs.run(body, **inputs), strict=True)))


def bottleneck(opset: int = OPSET) -> onnx.ModelProto:
    """The parts of a ResNet-50: stem, one bottleneck with a projection, dense end."""
    weights = {
        "stem": w(8, 3, 7, 7),
        "stem_b": w(8),
        "reduce": w(4, 8, 1, 1),
        "middle": w(4, 4, 3, 3),
        "expand": w(16, 4, 1, 1),
        "project": w(16, 8, 1, 1),
        "dense": w(10, 16),
        "dense_b": w(10),
    }
    nodes = [
        node("Conv", ["x", "stem", "stem_b"], ["c"], strides=[2, 2], pads=[3, 3, 3, 3]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["p", "reduce"], ["a"]),
        node("Relu", ["a"], ["ar"]),
        node("Conv", ["ar", "middle"], ["b"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["b"], ["br"]),
        node("Conv", ["br", "expand"], ["e"]),
        node("Conv", ["p", "project"], ["s"], strides=[2, 2]),
        node("Add", ["e", "s"], ["sum"]),
        node("Relu", ["sum"], ["out"]),
        node("GlobalAveragePool", ["out"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "dense", "dense_b"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["y"], axis=1),
    ]
    return model(nodes, {"x": (1, 3, 32, 32)}, {"y": (1, 10)}, weights, opset=opset)


NETWORKS = {
    "digits": (digits.build, (1, 1, 8, 8)),
    "ResNet20": (resnet_cifar.build, (1, 3, 32, 32)),
    "MobileNetV2": (lambda: mobilenet.build(10, 0.35), (1, 3, 32, 32)),
    "PMRID": (pmrid.build, (1, 3, 64, 64)),
    "cropper": (cropnet.build, (1, 3, 64, 64)),
    "YuNet": (yunet.build, (1, 3, 64, 64)),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, onnx.ModelProto]:
    """The zoo's networks at the opset of the targets."""
    import torch

    path = tmp_path_factory.mktemp("networks") / "m.onnx"
    found = {}
    for name, (build, shape) in NETWORKS.items():
        network, example = build().eval(), torch.zeros(shape)
        torch.onnx.export(network, (example,), path, opset_version=OPSET, dynamo=False)
        found[name] = simplify(onnx.load(path))[0]
    return found


def test_the_table_says_where_it_is_from_and_names_operators_that_there_are() -> None:
    table = read_operators(TABLE)
    assert table.library == "Hailo Dataflow Compiler 3.33"
    assert "hailo_model_zoo v2.18" in table.source
    for name, operator in table.operators.items():
        assert onnx.defs.has(name), name
        assert not operator.lacking or operator.remedy or table.remedy


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["digits", "ResNet20", "MobileNetV2", "PMRID", "cropper"])
def test_networks_that_the_chip_runs_whole(exported: dict[str, onnx.ModelProto], name: str) -> None:
    check_operators(exported[name], TABLE, "int8")
    assert find_end_nodes(exported[name], TABLE, "int8") == []


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
def test_the_parts_of_resnet_50_at_any_opset(opset: int) -> None:
    assert unsupported(bottleneck(opset), TABLE, "int8") == ()


@pytest.mark.filterwarnings("ignore")
def test_a_detector_s_heads_are_cut_behind_their_convolutions(
    exported: dict[str, onnx.ModelProto],
) -> None:
    whole = exported["YuNet"]
    ends = find_end_nodes(whole, TABLE, "int8")
    body, tail = cut(whole, ends)
    makers = {made: n.op_type for n in body.graph.node for made in n.output}
    assert len(ends) == 12
    assert [makers[name] for name in ends] == ["Conv"] * 12
    assert not {"Transpose", "Reshape"} & {n.op_type for n in body.graph.node}
    assert not {"Conv", "MaxPool", "Resize"} & {n.op_type for n in tail.graph.node}
    x = {whole.graph.input[0].name: 255 * np.abs(w(1, 3, 64, 64))}
    for found, expected in zip(through(whole, ends, **x), graphs.run(whole, **x), strict=True):
        assert np.array_equal(found, expected)


def test_the_heads_of_the_published_detector(data_folder: Path) -> None:
    """YuNet-n at 640x640: the 12 last convolutions are the end nodes, and nothing changes."""
    whole, _ = simplify(read_onnx(data_folder / "models" / "yunet_n_640_640.onnx"))
    ends = find_end_nodes(whole, TABLE, "int8")
    body, tail = cut(whole, ends)
    makers = {made: n.op_type for n in body.graph.node for made in n.output}
    assert [makers[name] for name in ends] == ["Conv"] * 12
    assert {n.op_type for n in tail.graph.node} == {"Transpose", "Reshape", "Sigmoid"}
    assert {n.op_type for n in body.graph.node} == {"Conv", "Relu", "Add", "MaxPool", "Resize"}
    assert unsupported(body, TABLE, "int8") == ()
    x = {"input": 255 * np.abs(w(1, 3, 640, 640))}
    for found, expected in zip(through(whole, ends, **x), graphs.run(whole, **x), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "inputs", "reason"),
    [
        ("Erf", {"x": IMAGE}, "GELU written out"),
        ("NonMaxSuppression", {"x": (1, 8, 4), "s": (1, 1, 8)}, "does not take it from ONNX"),
        ("RoiAlign", {"x": IMAGE, "r": (2, 4), "i": (2,)}, "its boxes are computed"),
        ("GridSample", {"x": IMAGE, "g": (1, 6, 6, 2)}, "its positions are computed"),
        ("LSTM", {"x": (3, 1, 4), "w": (1, 8, 4), "r": (1, 8, 2)}, "do not document it"),
        ("Transpose", {"x": IMAGE}, "only inside attention"),
        ("ArgMax", {"x": IMAGE}, "not ONNX's integers"),
        ("Div", {"x": IMAGE, "z": IMAGE}, "its input 'z' is computed"),
        ("Det", {"x": (1, 4, 4)}, "has no such operator"),
    ],
)
def test_what_it_does_not_take(kind: str, inputs: dict[str, Shape], reason: str) -> None:
    made = one(kind, inputs, **({"hidden_size": 2} if kind == "LSTM" else {}))
    assert reason in why(made)
    with pytest.raises(UnsupportedError, match=f"Compiler 3.33 cannot run {kind} 'the_node'") as e:
        check_operators(made, TABLE, "int8")
    assert e.value.hint


def test_control_flow_is_refused() -> None:
    branch = graphs.relu(IMAGE).graph
    del branch.input[:]
    made = model(
        [node("If", ["c"], ["y"], name="the_node", then_branch=branch, else_branch=branch)],
        {"x": IMAGE, "c": (1,)},
        {"y": IMAGE},
        opset=OPSET,
    )
    assert "has no branches" in why(made)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (one("Conv", {"x": (1, 8, 6)}, {"w": w(8, 8, 3)}), "its input has 3 axes"),
        (one("MaxPool", {"x": IMAGE}, kernel_shape=[2, 2], ceil_mode=1), "ceil_mode is 1"),
        (one("Concat", {"x": IMAGE, "z": IMAGE}, axis=2), "axis is 2"),
        (
            one("ConvTranspose", {"x": IMAGE}, {"w": w(8, 8, 3, 3)}, output_padding=[1, 1]),
            "output_padding is [1, 1]",
        ),
        (one("Pad", {"x": IMAGE}, {"p": whole_numbers(*[1] * 8)}, mode="reflect"), "mode is refl"),
        (one("ReduceMean", {"x": IMAGE}, axes=[1]), "axes is [1]"),
        (one("Resize", {"x": IMAGE}, {"r": w(8), "s": w(4)}, mode="cubic"), "mode cubic"),
    ],
)
def test_forms_that_no_source_shows(made: onnx.ModelProto, reason: str) -> None:
    assert reason in why(made)


def dense(reshape: list[onnx.NodeProto], weights: Weights, *more: str) -> onnx.ModelProto:
    """x -> the given nodes, which make f -> Gemm -> y; `more` values leave the model too."""
    nodes = [*reshape, node("Gemm", ["f", "w"], ["y"])]
    outputs = {"y": (1, 4), **{name: (None,) for name in more}}
    return model(nodes, {"x": (1, 8, 1, 1)}, outputs, {"w": w(8, 4), **weights}, opset=OPSET)


@pytest.mark.parametrize(
    ("before", "weights"),
    [
        ([node("Flatten", ["x"], ["f"])], {}),
        ([node("Reshape", ["x", "to"], ["f"])], {"to": whole_numbers(1, -1)}),
        ([node("Squeeze", ["x", "to"], ["f"])], {"to": whole_numbers(2, 3)}),
    ],
)
def test_a_change_of_shape_is_taken_before_a_dense_layer_only(
    before: list[onnx.NodeProto], weights: Weights
) -> None:
    assert why(dense(before, weights)) == ""
    assert "its output leaves the model" in why(dense(before, weights, "f"))
    taken = dense([*before, node("Relu", ["f"], ["r"], name="act")], weights, "r")
    assert "Relu 'act' takes its output, the library takes it only before Gemm or" in why(taken)


def test_a_classifier_without_a_dense_layer_ends_on_the_host() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["y"]),
    ]
    made = model(nodes, {"x": IMAGE}, {"y": (1, 5)}, {"w": w(5, 8, 1, 1)}, opset=OPSET)
    assert find_end_nodes(made, TABLE, "int8") == ["g"]


def test_before_is_a_rule_of_any_table() -> None:
    rules = {"Relu": Operator(before=("Conv", "Sigmoid"), remedy="do so"), "Sigmoid": Operator()}
    table = Operators(library="L", source="s", operators=rules)
    nodes = [node("Relu", ["x"], ["r"], name="act"), node("Sigmoid", ["r"], ["y"])]
    made = model(nodes, {"x": IMAGE}, {"y": IMAGE})
    assert unsupported(made, table, "int8") == ()
    (refusal,) = unsupported(model(nodes[:1], {"x": IMAGE}, {"r": IMAGE}), table, "int8")
    assert refusal.why == (
        "its output leaves the model, the library takes it only before Conv or Sigmoid"
    )
    assert refusal.remedy == "do so"
