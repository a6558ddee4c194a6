"""What stays float32 in a typed graph and is told; control flow; what is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import model, node
from typed_checks import BRAIN, FLOAT, HALF, Type, close, kinds, one, told, wide_nodes

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.typed import to_type

SHAPE, IMAGE = (2, 3), (1, 3, 8, 8)


def array(*values: float) -> graphs.Array:
    return np.array(values, np.float32)


def ints(*values: int) -> graphs.Array:
    return np.array(values, np.int64)


def test_resize_keeps_its_scales() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Resize", ["r", "", "s"], ["y"], name="up", mode="nearest"),
    ]
    source = model(nodes, {"x": IMAGE}, {"y": (1, 3, 16, 16)}, {"s": array(1, 1, 2, 2)})
    made, notes = to_type(source, "float16")
    assert notes == ["float32 stays in 1 (Resize: its scales): up"]
    assert (kinds(made)["s"], kinds(made)["r"]) == (FLOAT, HALF)
    close(source, made, 1e-3, x=graphs.draw(*IMAGE))


def test_a_weight_that_both_types_need_is_there_twice() -> None:
    nodes = [
        node("Mul", ["x", "s"], ["m"]),
        node("Resize", ["m", "", "s"], ["y"], name="up"),
    ]
    shape = (1, 1, 8, 4)
    source = model(nodes, {"x": shape}, {"y": (1, 1, 16, 8)}, {"s": array(1, 1, 2, 2)})
    made, _ = to_type(source, "float16")
    assert {t.name: t.data_type for t in made.graph.initializer} == {"s": FLOAT, "s_float16": HALF}
    close(source, made, 1e-3, x=graphs.draw(*shape))


def test_constants_are_as_their_users_need_them() -> None:
    nodes = [
        node("Constant", [], ["two"], name="c", value_float=2.0),
        node("Constant", [], ["s"], name="d", value_floats=[1.0, 1.0, 2.0, 2.0]),
        node("Mul", ["x", "two"], ["m"]),
        node("Resize", ["m", "", "s"], ["u"], name="up"),
        node("Mul", ["u", "u"], ["y"]),
    ]
    source = model(nodes, {"x": IMAGE}, {"y": (1, 3, 16, 16)})
    made, _ = to_type(source, "float16")
    by_name = {n.name: n for n in made.graph.node}
    assert by_name["d"] == source.graph.node[1]
    assert by_name["c"].attribute[0].t.data_type == HALF
    assert by_name["c"].output == ["two"]
    close(source, made, 3e-3, x=graphs.draw(*IMAGE))


def range_net() -> onnx.ModelProto:
    """x (1, 3, 8, 8) -> its pixels' positions by Range over the shape, as floats, added to it."""
    nodes = [
        node("Shape", ["x"], ["shape"], name="shape"),
        node("Gather", ["shape", "three"], ["width"], name="width"),
        node("Cast", ["width"], ["stop"], name="stop", to=FLOAT),
        node("Range", ["zero", "stop", "step"], ["columns"], name="range"),
        node("Mul", ["columns", "step"], ["scaled"], name="scaled"),
        node("Add", ["x", "scaled"], ["y"], name="add"),
    ]
    weights = {"three": np.array(3, np.int64), "zero": np.float32(0), "step": np.float32(1)}
    made = {name: np.asarray(value) for name, value in weights.items()}
    return model(nodes, {"x": IMAGE}, {"y": IMAGE}, made)


def test_shape_computations_are_untouched() -> None:
    source = range_net()
    made, notes = to_type(source, "float16")
    assert notes == [
        "float32 stays in 2 (shape computation): stop, scaled",
        "float32 stays in 1 (Range: positions): range",
    ]
    assert [n for n in made.graph.node if n.op_type != "Cast"][:4] == [
        n for n in source.graph.node if n.op_type != "Cast"
    ][:4]
    close(source, made, 1e-3, x=graphs.draw(*IMAGE))


def test_what_becomes_an_integer_from_constants_alone_is_exact() -> None:
    """4099 is no float16: half of it would be a size one off."""
    nodes = [
        node("Mul", ["big", "half"], ["m"], name="m"),
        node("Cast", ["m"], ["n"], name="n", to=TensorProto.INT64),
        node("Expand", ["x", "n"], ["y"], name="expand"),
    ]
    weights = {"big": array(4099), "half": array(1)}
    source = model(nodes, {"x": (1,)}, {"y": (4099,)}, weights)
    made, notes = to_type(source, "float16")
    assert notes == ["float32 stays in 2 (shape computation): m, n"]
    close(source, made, 1e-3, x=array(1.5))


@pytest.mark.parametrize(
    ("kind", "shapes", "dtype", "why"),
    [
        ("Det", [(3, 3)], "float16", None),
        ("Einsum", [SHAPE, (3, 4)], "bfloat16", "Einsum: no bfloat16 in opset 22"),
        ("NonMaxSuppression", [(1, 4, 4), (1, 1, 4)], "float16", "NonMaxSuppression: boxes"),
        ("QuantizeLinear", [SHAPE, ()], "float16", "QuantizeLinear: scales of quantizing"),
        ("DynamicQuantizeLinear", [SHAPE], "float16", "DynamicQuantizeLinear: scales of quantiz"),
    ],
)
def test_operators_that_keep_float32(
    kind: str, shapes: list[Sequence[int]], dtype: Type, why: str | None
) -> None:
    attributes = {"equation": "ij,jk->ik"} if kind == "Einsum" else {}
    source = one(kind, *shapes, **attributes)
    before = [node("Neg", [v.name], [f"{v.name}_neg"]) for v in source.graph.input]
    last = source.graph.node[0]
    last.input[:] = [f"{name}_neg" for name in last.input]
    nodes = [*before, last]
    del source.graph.node[:]
    source.graph.node.extend(nodes)
    made, notes = to_type(onnx.shape_inference.infer_shapes(source), dtype)
    kept = [note for note in notes if note.startswith("float32 stays")]
    if why is None:
        assert kept == []
        return
    assert len(kept) == 1
    assert why in kept[0]
    assert [n.op_type for n in wide_nodes(made)] == [kind]
    negated = kinds(made)["a_neg"]
    assert negated == (BRAIN if dtype == "bfloat16" else HALF)


def test_an_operator_that_onnx_does_not_define_keeps_float32() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("FusedThing", ["r"], ["f"], name="thing", domain="com.microsoft"),
        node("Relu", ["f"], ["y"]),
    ]
    source = model(nodes, {"x": SHAPE}, {"y": SHAPE})
    with pytest.raises(UnsupportedError, match="type of 'f', made by FusedThing 'thing'"):
        to_type(source, "float16")
    source.graph.value_info.append(graphs.value("f", SHAPE))
    made, notes = to_type(source, "float16")
    assert notes == ["float32 stays in 1 (FusedThing: not an operator of ONNX): thing"]
    types = [n.op_type for n in made.graph.node]
    assert types == ["Cast", "Relu", "Cast", "FusedThing", "Cast", "Relu", "Cast"]


def test_names_beyond_the_eighth_are_counted() -> None:
    nodes = [node("NonMaxSuppression", ["b", "s"], [f"y{i}"], name=f"n{i}") for i in range(11)]
    source = model(nodes, {"b": (1, 4, 4), "s": (1, 1, 4)}, {})
    source.graph.output.extend(graphs.value(f"y{i}", ("n", 3), 7) for i in range(11))
    _, notes = to_type(source, "float16")
    shown = ", ".join(f"n{i}" for i in range(8))
    assert notes == [f"float32 stays in 11 (NonMaxSuppression: boxes): {shown} and 3 more"]


def test_weights_that_leave_the_range_are_told() -> None:
    far = array(1, -70000, 65519, 3e38, 65504)
    near = array(1e-9, -2e-9, 1e-5, 1, 0)
    nodes = [node("Mul", ["x", "far"], ["m"]), node("Add", ["m", "near"], ["y"])]
    source = model(nodes, {"x": (5,)}, {"y": (5,)}, {"far": far, "near": near})
    made, notes = to_type(source, "float16")
    assert notes == [
        "beyond 65504, put to it: weights far (3 of 5, up to 3e+38)",
        "2 of 10 weights become 0 in float16, in 1 tensors; most in near (2)",
        "1 of 10 weights become subnormal in float16, in 1 tensors; most in near (1)",
    ]
    held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert held["far"].tolist() == [1, -65504, 65504, 65504, 65504]
    _, notes = to_type(source, "bfloat16")
    assert notes == ["opset raised from 18 to 22"]


def test_the_largest_float32_stays_finite_in_bfloat16() -> None:
    """A mask of attention holds it; rounded to the nearest it would be infinite."""
    lowest = array(np.finfo(np.float32).min, -np.inf)
    source = model([node("Add", ["x", "w"], ["y"])], {"x": (2,)}, {"y": (2,)}, {"w": lowest})
    made, notes = to_type(source, "bfloat16")
    assert notes[1:] == ["beyond 3.38953e+38, put to it: weights w (1 of 2, up to 3.403e+38)"]
    held = numpy_helper.to_array(made.graph.initializer[0]).astype(np.float32)
    assert np.isfinite(held).tolist() == [True, False]


@pytest.mark.parametrize("place", ["initializer", "constant", "fill"])
def test_infinities_are_refused_by_name(place: str) -> None:
    endless = np.array([-np.inf], np.float32)
    tensor = numpy_helper.from_array(endless, "w")
    nodes = [node("Add", ["x", "w"], ["y"])]
    if place != "initializer":
        kind = "Constant" if place == "constant" else "ConstantOfShape"
        nodes.insert(0, node(kind, ["n"] if place == "fill" else [], ["w"], value=tensor))
    weights = {"w": endless} if place == "initializer" else {"n": ints(2)}
    source = model(nodes, {"x": (2,)}, {"y": (2,)}, weights)
    with pytest.raises(UnsupportedError, match="weight 'w' holds 1 infinities") as caught:
        to_type(source, "float16")
    assert caught.value.hint


def test_branches_are_typed() -> None:
    def branch(kind: str) -> onnx.GraphProto:
        inner = [node(kind, ["r", "w"], [f"{kind}_a"]), node("Relu", [f"{kind}_a"], [f"{kind}_b"])]
        return helper.make_graph(inner, kind, [], [graphs.value(f"{kind}_b", SHAPE)])

    nodes = [
        node("Relu", ["x"], ["r"]),
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["c"]),
        node("If", ["c"], ["f"], then_branch=branch("Add"), else_branch=branch("Mul")),
        node("Neg", ["f"], ["y"]),
    ]
    weights = {"w": graphs.draw(*SHAPE), "zero": np.asarray(np.float32(0))}
    source = model(nodes, {"x": SHAPE}, {"y": SHAPE}, weights)
    made, notes = to_type(source, "float16")
    assert notes == []
    assert kinds(made)["f"] == HALF
    for sign in (1, -1):
        close(source, made, 1e-3, x=sign * np.abs(graphs.draw(*SHAPE)))


def test_loops_are_typed_and_cast_inside() -> None:
    """The state goes round in float16; Range in the body gives float32."""
    body = helper.make_graph(
        [
            node("Range", ["zero", "three", "one"], ["columns"], name="columns"),
            node("Add", ["state", "columns"], ["sum"]),
            node("Mul", ["sum", "r"], ["next"]),
            node("Identity", ["going"], ["on"]),
            node("Identity", ["columns"], ["row"]),
        ],
        "body",
        [
            graphs.value("i", [], TensorProto.INT64),
            graphs.value("going", [], TensorProto.BOOL),
            graphs.value("state", SHAPE),
        ],
        [
            graphs.value("on", [], TensorProto.BOOL),
            graphs.value("next", SHAPE),
            graphs.value("columns", (3,)),
        ],
    )
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Loop", ["count", "", "x"], ["last", "rows"], body=body),
        node("Neg", ["last"], ["y"]),
        node("Neg", ["rows"], ["z"]),
    ]
    numbers = {"zero": 0.0, "one": 1.0, "three": 3.0}
    weights = {name: np.asarray(np.float32(v)) for name, v in numbers.items()}
    weights["count"] = np.asarray(np.int64(3))
    source = model(nodes, {"x": SHAPE}, {"y": SHAPE, "z": (3, 3)}, weights)
    made, notes = to_type(source, "float16")
    assert notes == ["float32 stays in 1 (Range: positions): columns"]
    known = kinds(made)
    assert (known["last"], known["rows"]) == (HALF, HALF)
    close(source, made, 1e-2, x=graphs.draw(*SHAPE))


def test_functions_are_written_out() -> None:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], imports[:1]
    )
    source = model([node("Twice", ["x"], ["y"], domain="own")], {"x": SHAPE}, {"y": SHAPE})
    source.opset_import.append(imports[1])
    source.functions.append(twice)
    made, notes = to_type(source, "float16")
    assert notes == []
    assert [n.op_type for n in made.graph.node] == ["Cast", "Add", "Cast"]
    x = graphs.draw(*SHAPE)
    np.testing.assert_allclose(graphs.run(made, x=x)[0], 2 * x, rtol=1e-3)


def test_sequences_are_refused_by_name() -> None:
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["pair"]),
        node("ConcatFromSequence", ["pair"], ["y"], axis=0),
    ]
    source = model(nodes, {"x": SHAPE}, {"y": (4, 3)})
    with pytest.raises(UnsupportedError, match="'pair' is no tensor"):
        to_type(source, "float16")


def test_old_files_list_weights_as_inputs() -> None:
    source = graphs.classifier(opset=11)
    source.ir_version = 3
    source.graph.input.extend(graphs.value(t.name, t.dims) for t in source.graph.initializer)
    made, _ = to_type(source, "float16")
    assert [v.name for v in made.graph.input] == ["x"]
    assert made.ir_version >= 4
    close(graphs.classifier(), made, 1e-2, x=graphs.draw(*IMAGE))


UNARY = ["Relu", "Sigmoid", "Tanh", "Neg", "Identity"]
BINARY = ["Add", "Sub", "Mul", "Max"]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), count=st.integers(1, 9), dtype=st.sampled_from(["float16", "bfloat16"]))
def test_the_law_over_random_graphs(data: st.DataObject, count: int, dtype: Any) -> None:
    """The nodes stay in their order but for Casts, the ends stay, and each float32 is told."""
    values, nodes = ["x", "w"], []
    for i in range(count):
        kind = data.draw(st.sampled_from([*UNARY, *BINARY, "QDQ", "Resize"]))
        many = 2 if kind in BINARY else 1
        taken = data.draw(st.lists(st.sampled_from(values[-4:]), min_size=many, max_size=many))
        if kind == "QDQ":
            nodes += [
                node("QuantizeLinear", [taken[0], "s", "z"], [f"q{i}"], name=f"q{i}"),
                node("DequantizeLinear", [f"q{i}", "s", "z"], [f"v{i}"], name=f"d{i}"),
            ]
        elif kind == "Resize":
            nodes.append(node(kind, [taken[0], "", "ones"], [f"v{i}"], name=f"n{i}"))
        else:
            nodes.append(node(kind, taken, [f"v{i}"], name=f"n{i}"))
        values.append(f"v{i}")
    others = data.draw(st.sets(st.sampled_from(values[2:]), max_size=3))
    weights = {
        "w": graphs.draw(*SHAPE),
        "s": np.asarray(np.float32(1 / 64)),
        "z": np.asarray(np.int8(0)),
        "ones": array(1, 1),
    }
    outputs = dict.fromkeys(sorted({*others, values[-1]}), SHAPE)
    source = model(nodes, {"x": SHAPE}, outputs, weights)
    made, notes = to_type(source, dtype)
    assert [(v.name, v.type) for v in [*made.graph.input, *made.graph.output]] == [
        (v.name, v.type) for v in [*source.graph.input, *source.graph.output]
    ]
    stays = [n for n in made.graph.node if n.op_type != "Cast"]
    assert [(n.op_type, n.name) for n in stays] == [(n.op_type, n.name) for n in nodes]
    casts = len(made.graph.node) - len(stays)
    kept = wide_nodes(made)
    assert told(notes) == len(kept)
    assert casts <= 1 + len(outputs) + 2 * len(kept)
    assert all(n.name in " ".join(notes) for n in kept[:4])
    if dtype == "float16":
        # a quantization step may fall on the other side
        x = graphs.draw(*SHAPE)
        for one_, two in zip(graphs.run(source, x=x), graphs.run(made, x=x), strict=True):
            steps = sum(n.op_type == "QuantizeLinear" for n in nodes)
            assert np.abs(one_ - two).max() <= (0.01 + steps / 32) * (1 + np.abs(one_).max()) ** 3
