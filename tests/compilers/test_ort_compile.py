"""Offline optimisation by ONNX Runtime, its refusals, and errors by layer."""

import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_onnx as tiny
from onnx import TensorProto, helper


@pytest.fixture(scope="module")
def ort() -> ModuleType:
    return tiny.program("compilers", "ort")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "net.onnx")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return tiny.samples(tmp_path / "calibration.npz", x=tiny.images())


@pytest.fixture
def quantized(ort: ModuleType, model: str, data: str, tmp_path: Path) -> str:
    return str(ort.quantize_model(model, str(tmp_path), data, {})["path"])


def operators(path: str) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_fp32_is_fused_and_computes_the_same(ort: ModuleType, model: str, tmp_path: Path) -> None:
    answer = ort.compile_model(model, str(tmp_path), "fp32", None, {})
    assert answer["format"] == "onnx"
    assert answer["options"] == {"graph_optimization": "extended"}
    assert answer["tools"] == ort.probe()["tools"]
    assert operators(answer["path"])["FusedConv"] == 2
    assert not {"Relu", "Clip"} & set(operators(answer["path"]))
    np.testing.assert_allclose(
        tiny.outputs_of(answer["path"], tiny.images()),
        tiny.outputs_of(model, tiny.images()),
        atol=1e-5,
    )


def test_int8_has_integer_operators_and_computes_as_the_quantized_model(
    ort: ModuleType, quantized: str, tmp_path: Path
) -> None:
    path = ort.compile_model(quantized, str(tmp_path), "int8", None, {})["path"]
    assert operators(path)["QLinearConv"] == 3
    assert operators(path)["QuantizeLinear"] == 1
    np.testing.assert_array_equal(
        tiny.outputs_of(path, tiny.images()), tiny.outputs_of(quantized, tiny.images())
    )


def test_level_basic_keeps_the_quantize_nodes(
    ort: ModuleType, quantized: str, tmp_path: Path
) -> None:
    options = {"graph_optimization": "basic"}
    answer = ort.compile_model(quantized, str(tmp_path), "int8", None, options)
    assert answer["options"] == options
    assert operators(answer["path"])["QuantizeLinear"] > 1
    with pytest.raises(ort.BadInput, match="graph_optimization: 'extend' is not known") as caught:
        ort.compile_model(quantized, str(tmp_path), "int8", None, {"graph_optimization": "extend"})
    assert caught.value.hint == "Did you mean 'extended'?"


def test_a_float_model_is_not_passed_off_as_int8(
    ort: ModuleType, model: str, tmp_path: Path
) -> None:
    with pytest.raises(ort.BadInput, match=r"net\.onnx has neither Q/DQ nor integer operators"):
        ort.compile_model(model, str(tmp_path), "int8", None, {})


def test_fp16_is_unsupported(ort: ModuleType, model: str, tmp_path: Path) -> None:
    with pytest.raises(ort.Unsupported, match="'fp16'") as caught:
        ort.compile_model(model, str(tmp_path), "fp16", None, {})
    assert type(caught.value).__name__ == "Unsupported"
    assert "fp32 or int8" in caught.value.hint


@pytest.mark.parametrize(
    ("operator", "opset", "kind", "message"),
    [
        ("Relu", 99, TensorProto.FLOAT, "does not know opset 99 yet"),
        ("Frobnicate", 17, TensorProto.FLOAT, "lacks operator Frobnicate at opset 17"),
        ("com.microsoft:Mend", 17, TensorProto.FLOAT, "lacks operator com.microsoft:Mend"),
        ("Relu", 17, TensorProto.BFLOAT16, "lacks Relu(14) of node 'only'"),
    ],
)
def test_what_onnx_runtime_lacks_is_unsupported_and_named(
    tmp_path: Path, operator: str, opset: int, kind: int, message: str
) -> None:
    ort = tiny.program("compilers", "ort")
    ends = [tiny.value("x", (1, 4), kind)], [tiny.value("y", None, kind)]
    domain, _, name = operator.rpartition(":")
    node = helper.make_node(name, ["x"], ["y"], name="only", domain=domain)
    path = tiny.write(tmp_path / "odd.onnx", [node], *ends, opset=opset)
    with pytest.raises(ort.Unsupported) as caught:
        ort.compile_model(path, str(tmp_path), "fp32", None, {})
    assert message in str(caught.value)
    assert onnxruntime.__version__ in str(caught.value)


def test_files_that_are_no_model_say_so(ort: ModuleType, model: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(Path(model).read_bytes()[:1000])
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    wrong = onnx.load(model)
    wrong.graph.node[0].input[0] = "nowhere"
    onnx.save(wrong, str(tmp_path / "wrong.onnx"))
    for path in (cut, text, tmp_path / "absent.onnx"):
        with pytest.raises(ort.BadInput, match=f"{path.name} is no ONNX model"):
            ort.compile_model(str(path), str(tmp_path), "fp32", None, {})
    with pytest.raises(ort.BadInput, match=r"wrong\.onnx is no model ONNX Runtime can load"):
        ort.compile_model(str(tmp_path / "wrong.onnx"), str(tmp_path), "fp32", None, {})


def simulated(model: str, tensors: list[str], arrays: tiny.Array) -> dict[str, tiny.Array]:
    """Tensors of a graph computed as it stands, for all samples."""
    proto = onnx.load(model)
    present = {value.name for value in proto.graph.output}
    fresh = [onnx.ValueInfoProto(name=name) for name in tensors if name not in present]
    proto.graph.output.extend(fresh)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), settings)
    runs = [session.run(tensors, {"x": array}) for array in arrays]
    return {name: np.stack([run[i] for run in runs]) for i, name in enumerate(tensors)}


def test_layer_errors_are_the_ratios_of_powers_worst_first(
    ort: ModuleType, model: str, quantized: str, data: str
) -> None:
    rows = ort.layer_errors(model, quantized, data, {})["layers"]
    # what only Relu or Clip read is not in the quantized model
    assert {row["layer"] for row in rows} == {
        "relu",
        "clip",
        "pointwise",
        "skip",
        "pool",
        "flatten",
        "classifier",
    }
    found = [row["snr_db"] for row in rows]
    assert found == sorted(found)
    made = {"relu": "r1", "pointwise": "c3", "skip": "sum", "classifier": "y"}
    twins = {name: f"{name}_DequantizeLinear_Output" for name in ("r1", "c3", "sum")} | {"y": "y"}
    truth = simulated(model, list(twins), tiny.images())
    other = simulated(quantized, list(twins.values()), tiny.images())
    for row in rows:
        if row["layer"] in made:
            name = made[row["layer"]]
            expected = tiny.snr_db(truth[name], other[twins[name]])
            assert row["snr_db"] == pytest.approx(expected, abs=1e-6)
            assert 20 < row["snr_db"] < 60


def test_layers_in_float_are_equal_and_come_last(
    ort: ModuleType, model: str, data: str, tmp_path: Path
) -> None:
    options = {"op_types": ["Gemm"]}
    path = ort.quantize_model(model, str(tmp_path), data, options)["path"]
    rows = ort.layer_errors(model, path, data, {})["layers"]
    assert [row["layer"] for row in rows[:2]] != ["first", "relu"]
    equal = {row["layer"] for row in rows if row["snr_db"] is None}
    assert {"first", "relu", "depthwise", "clip", "pointwise", "skip", "pool"} <= equal
    assert rows[0]["layer"] == "classifier"
    assert rows[-1]["snr_db"] is None


def test_layer_errors_refuse_samples_that_do_not_fit(
    ort: ModuleType, model: str, quantized: str, tmp_path: Path
) -> None:
    wrong = tiny.samples(tmp_path / "wrong.npz", z=tiny.images())
    with pytest.raises(ort.BadInput, match="the model's inputs are x"):
        ort.layer_errors(model, quantized, wrong, {})


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_as_given_leaves_the_graph_to_another_provider_and_tells_the_precision(
    ort: ModuleType, tmp_path: Path, precision: str
) -> None:
    kind = np.float16 if precision == "fp16" else np.float32
    model = tiny.conv_net(tmp_path / "net.onnx", kind=kind)
    (tmp_path / "out").mkdir()
    options = {"graph_optimization": "as_given"}
    answer = ort.compile_model(model, str(tmp_path / "out"), precision, None, options)
    assert answer["options"] == options
    assert operators(answer["path"]) == operators(model)
    told = json.loads((tmp_path / "out" / "model.json").read_text())
    assert told == {"format": 1, "precision": precision}
    with pytest.raises(ort.Unsupported, match="precision 'fp8'"):
        ort.compile_model(model, str(tmp_path / "out"), "fp8", None, options)
    if precision != "fp32":
        with pytest.raises(ort.Unsupported, match=r"in fp32 or int8 on a CPU"):
            ort.compile_model(model, str(tmp_path / "out"), precision, None, {})
