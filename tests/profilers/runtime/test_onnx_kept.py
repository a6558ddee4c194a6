"""The kept ONNX on this host: rounded to its types, Q/DQ as defined, and no time."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
KINDS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
NUMPY: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
WEIGHTS = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)


@pytest.fixture
def emulator(tiny: ModuleType) -> ModuleType:
    module: ModuleType = tiny.program("profilers/runtime", "onnx_kept")
    return module


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The path of an artifact, with an empty folder of what was kept."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "artifact").mkdir()
    return tmp_path / "artifact" / "model.engine"


def keep(
    artifact: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    *,
    kind: int = TensorProto.FLOAT,
    shape: Sequence[int] = (2, 3),
) -> Path:
    """Keep a model of x and y of this type, at opset 19."""
    x = helper.make_tensor_value_info("x", kind, shape)
    y = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "kept", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    path = artifact.parent.parent / "kept" / "model.onnx"
    onnx.save(model, str(path))
    return path


def narrow(name: str, value: Array, kind: int) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, value.shape, value.ravel().tolist())


def typed_chain(kind: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """y = ((x W) k) / k in a narrow type, float32 at its ends; k takes float16 over its largest."""
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["a"], to=kind),
        node("MatMul", ["a", "w"], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("Mul", ["r", "k"], ["c"]),
        node("Div", ["c", "k"], ["d"]),
        node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    return nodes, [narrow("w", WEIGHTS.T, kind), narrow("k", np.float32([30000]), kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_result_is_rounded_to_the_graphs_type(
    emulator: ModuleType, artifact: Path, kind: str
) -> None:
    keep(artifact, *typed_chain(KINDS[kind]))
    answer = emulator.load(str(artifact), {})
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 3]}]
    assert answer["outputs"][0]["dtype"] == "float32"
    x = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32)
    found = emulator.run_many({"x": x})["y"]
    with np.errstate(over="ignore", invalid="ignore"):

        def rounded(value: Array) -> Array:
            return value.astype(NUMPY[kind]).astype(np.float32)

        held, weights = rounded(x), rounded(WEIGHTS.T)
        exact = np.stack([rounded(np.maximum(each @ weights, 0)) for each in held])
        k = rounded(np.float32([30000]))
        wanted = rounded(rounded(exact * k) / k)
    # a product of three terms may be added up in another order: one step of the type at most
    step = 2.0**-10 if kind == "float16" else 2.0**-7
    assert (np.isfinite(found) == np.isfinite(wanted)).all()
    finite = np.isfinite(wanted)
    assert finite.all() == (kind == "bfloat16")  # float16 runs over, as it would on the device
    np.testing.assert_allclose(found[finite], wanted[finite], rtol=2 * step)
    assert (found[finite] == wanted[finite]).mean() > 0.9
    assert np.array_equal(found, np.where(finite, rounded(found), found))
    arithmetic = f"products and sums in float32; each result rounded to {kind}"
    assert emulator.facts()["arithmetic"] == arithmetic


def test_ends_of_a_narrow_type_and_branches_keep_their_values(
    emulator: ModuleType, artifact: Path
) -> None:
    kind, node = TensorProto.FLOAT16, helper.make_node
    branch = {
        name: helper.make_graph(
            [node("Mul", ["x", each], [f"{name}/out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}/out", kind, (2, 3))],
        )
        for name, each in (("then", "big"), ("else", "small"))
    }
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Greater", ["most", "zero"], ["positive"]),
        node("If", ["positive"], ["y"], then_branch=branch["then"], else_branch=branch["else"]),
    ]
    values = {"big": 40000.0, "small": 0.1, "zero": 0.0}
    weights = [narrow(name, np.array(v, np.float32), kind) for name, v in values.items()]
    keep(artifact, nodes, weights, kind=kind)
    answer = emulator.load(str(artifact), {})
    assert [answer[key][0]["dtype"] for key in ("inputs", "outputs")] == ["float16"] * 2
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float16)
    over, under = emulator.run({"x": x})["y"], emulator.run({"x": -x})["y"]
    assert over.dtype == under.dtype == np.float16
    assert over.ravel()[0] == np.float16(40000)
    assert np.isinf(over.ravel()[1:]).all()
    assert np.array_equal(under, -x * np.float16(0.1))


@pytest.mark.parametrize("eight", ["int8", "float8e4m3fn"])
def test_quantized_graphs_are_computed_as_onnx_defines_them(
    emulator: ModuleType, artifact: Path, eight: str
) -> None:
    kind = TensorProto.INT8 if eight == "int8" else TensorProto.FLOAT8E4M3FN
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        node("DequantizeLinear", ["wq", "ws", "z"], ["w"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("QuantizeLinear", ["b", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    stored = np.arange(-6, 6).reshape(3, 4).astype(np.float32)
    scale = np.float32(0.04)
    weights = [
        numpy_helper.from_array(np.array(scale), "s"),
        numpy_helper.from_array(np.array(0.125, np.float32), "ws"),
        helper.make_tensor("z", kind, (), [0]),
        helper.make_tensor("wq", kind, stored.shape, stored.ravel().astype(int).tolist()),
    ]
    keep(artifact, nodes, weights)
    emulator.load(str(artifact), {"threads": 2})
    x = np.random.default_rng(0).standard_normal((40, 2, 3)).astype(np.float32)
    found = emulator.run_many({"x": x})["y"]

    def held(value: Array) -> Array:
        if eight == "int8":
            return np.clip(np.rint(value / scale), -128, 127).astype(np.float32) * scale
        return (value / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale

    wanted = held(held(x) @ (stored * np.float32(0.125)))
    # a sum that lies between two steps may come to either
    assert (np.isclose(found, wanted, rtol=1e-6)).mean() > 0.97
    np.testing.assert_allclose(found, wanted, rtol=0.13, atol=1.01 * scale)
    told = emulator.facts()["arithmetic"]
    assert told == f"products and sums in float32; Q/DQ of {eight} as ONNX defines it"


def test_samples_at_once_give_what_each_alone_gives(
    emulator: ModuleType, tiny: ModuleType, artifact: Path
) -> None:
    path = tiny.conv_net(artifact.parent.parent / "kept" / "model.onnx")
    x = tiny.images(9)
    emulator.load(str(artifact), {"threads": 3})
    many = emulator.run_many({"x": x})["y"]
    assert np.array_equal(many, np.stack([emulator.run({"x": each})["y"] for each in x]))
    np.testing.assert_allclose(many, tiny.outputs_of(path, x), atol=1e-5)
    moved = artifact.parent.parent / "elsewhere"
    shutil.move(path, moved)
    with pytest.raises(emulator.BadInput, match=r"there is no .*kept.model\.onnx") as caught:
        emulator.load(str(artifact), {})
    assert "option `kept` names it" in caught.value.hint
    assert emulator.load(str(artifact), {"kept": str(moved)})["options"]["kept"] == str(moved)


def test_nothing_is_timed_and_all_is_marked(
    emulator: ModuleType, tiny: ModuleType, artifact: Path
) -> None:
    with pytest.raises(emulator.BadInput, match="no artifact is loaded"):
        emulator.run_many({})
    tiny.conv_net(artifact.parent.parent / "kept" / "model.onnx")
    emulator.load(str(artifact), {})
    timed = emulator.timed({}, 1, 1)
    assert [timed[key] for key in ("latency_s", "cycles", "instructions")] == [None] * 3
    assert timed["notes"][0].startswith("numbers of the kept ONNX by ONNX Runtime")
    facts = emulator.facts()
    assert facts["emulated"] is True
    assert facts["tools"] == emulator.probe()["tools"]
    assert facts["arithmetic"] == "products and sums in float32"
    with pytest.raises(emulator.Unsupported, match="its time is not the device's"):
        emulator.bind({})
    assert emulator.layers({}, 1) == []
    assert emulator.memory() == {}


def test_what_was_kept_is_the_artifacts(
    emulator: ModuleType, tiny: ModuleType, artifact: Path
) -> None:
    tiny.conv_net(artifact.parent.parent / "kept" / "model.onnx")
    record = artifact.with_name("model.json")
    ends = {"inputs": [{"name": "x"}], "outputs": [{"name": "y"}]}
    record.write_text(json.dumps(ends))
    assert emulator.load(str(artifact), {})["outputs"][0]["name"] == "y"
    record.write_text(json.dumps({**ends, "outputs": [{"name": "z"}]}))
    with pytest.raises(
        emulator.BadInput, match=r"has outputs \['y'\], model\.json of the artifact says"
    ):
        emulator.load(str(artifact), {})


def test_an_artifact_that_is_onnx_needs_no_other_file(
    emulator: ModuleType, tiny: ModuleType, tmp_path: Path
) -> None:
    path = tiny.conv_net(tmp_path / "model.onnx")
    emulator.load(path, {})
    x = tiny.images(2)
    found = emulator.run_many({"x": x})["y"]
    np.testing.assert_allclose(found, tiny.outputs_of(path, x), atol=1e-5)


def tf32(value: Array) -> Array:
    """The nearest of what has 10 bits behind the point, ties to even."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    even = (bits >> 13) & 1
    return ((bits + 0xFFF + even) & np.uint32(0xFFFFE000)).astype(np.uint32).view(np.float32)


def test_factors_of_products_have_the_bits_of_tf32(emulator: ModuleType, artifact: Path) -> None:
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "b"], ["c"]),
        node("MatMul", ["c", "v"], ["y"]),
    ]
    draw = np.random.default_rng(5)
    weights = {
        "w": draw.standard_normal((3, 1)).astype(np.float32),
        "b": draw.standard_normal(1).astype(np.float32),
        "v": draw.standard_normal((1, 2)).astype(np.float32),
    }
    keep(artifact, nodes, [numpy_helper.from_array(v, name) for name, v in weights.items()])
    artifact.with_name("model.json").write_text(json.dumps({"precision": "tf32"}))
    emulator.load(str(artifact), {})
    x = draw.standard_normal((30, 2, 3)).astype(np.float32)
    found = emulator.run_many({"x": x})["y"]
    held = (tf32(x) @ tf32(weights["w"])) + weights["b"]
    wanted = tf32(held) @ tf32(weights["v"])
    # a sum in another order may come to the neighbour of the first product's rounding
    assert np.isclose(found, wanted, rtol=1e-6).mean() > 0.97
    exact = ((x @ weights["w"]) + weights["b"]) @ weights["v"]
    assert np.isclose(found, exact, rtol=1e-6).mean() < 0.1
    np.testing.assert_allclose(found, exact, rtol=0.02, atol=0.01)
    told = "products of factors rounded to TF32 and sums in float32"
    assert emulator.facts()["arithmetic"] == told
    assert emulator.timed({}, 1, 1)["notes"][0].endswith(told)


def test_what_cannot_run_here_is_told(
    emulator: ModuleType, tiny: ModuleType, artifact: Path
) -> None:
    path = artifact.parent.parent / "kept" / "model.onnx"
    path.write_bytes(b"\x08\x07nothing")
    with pytest.raises(emulator.BadInput, match="is no ONNX model"):
        emulator.load(str(artifact), {})
    nodes = [helper.make_node("Nonsense", ["x"], ["y"], domain="com.microsoft")]
    tiny.write(path, nodes, [tiny.value("x", (2,))], [tiny.value("y", (2,))])
    with pytest.raises(emulator.Unsupported, match="cannot run the kept ONNX") as caught:
        emulator.load(str(artifact), {})
    assert "Nonsense" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"thread": 4}, "option 'thread' is not known"),
        ({"threads": -1}, "option threads is -1, expected a value like 0"),
        ({"kept": 3}, "option kept is 3, expected a value like ''"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    emulator: ModuleType, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(emulator.BadInput) as caught:
        emulator.load("nowhere", options)
    assert told in str(caught.value)


def test_wrong_samples_say_what_was_found_and_expected(
    emulator: ModuleType, tiny: ModuleType, artifact: Path
) -> None:
    tiny.conv_net(artifact.parent.parent / "kept" / "model.onnx")
    emulator.load(str(artifact), {})
    with pytest.raises(emulator.BadInput, match=r"inputs given are \[\], the model's are \['x'\]"):
        emulator.run_many({})
    with pytest.raises(emulator.BadInput, match=r"inputs have \[0\] samples"):
        emulator.run_many({"x": tiny.images(1)[:0]})
    with pytest.raises(emulator.BadInput, match=r"expected float32 \(1, 3, 16, 16\)"):
        emulator.run({"x": np.zeros((1, 3, 16, 8), np.float32)})
