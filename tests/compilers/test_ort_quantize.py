"""Static quantization by ONNX Runtime: what is made, from which ranges, and what is refused."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

Quantize = Callable[..., tuple[str, onnx.ModelProto]]


@pytest.fixture(scope="module")
def ort() -> ModuleType:
    return tiny.program("compilers", "ort")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "given").mkdir()
    return tiny.conv_net(tmp_path / "given" / "net.onnx")


@pytest.fixture
def quantize(ort: ModuleType, tmp_path: Path, model: str) -> Quantize:
    """Quantize the small net, or another model or with other samples: path and model made."""
    usual = tiny.samples(tmp_path / "usual.npz", x=tiny.images())

    def made(
        source: str = model, data: str | None = usual, **options: object
    ) -> tuple[str, onnx.ModelProto]:
        output = tmp_path / "output"
        output.mkdir(exist_ok=True)
        path = ort.quantize_model(source, str(output), data, options)["path"]
        return path, onnx.load(path)

    return made


def fidelity_db(model: str, path: str) -> float:
    """Signal to noise of the net's output on samples it was not calibrated with."""
    held_out = tiny.images(8, seed=9)
    return tiny.snr_db(tiny.outputs_of(model, held_out), tiny.outputs_of(path, held_out))


def test_default_is_uint8_activations_and_int8_weights_by_channel(
    model: str, quantize: Quantize
) -> None:
    path, proto = quantize()
    assert fidelity_db(model, path) > 30
    onnx.checker.check_model(proto, full_check=True)
    first = tiny.node_named(proto, "first")
    activation, weight, bias = (tiny.maker_of(proto, name) for name in first.input)
    assert tiny.constant(proto, weight.input[0]).dtype == np.int8
    assert tiny.constant(proto, weight.input[1]).shape == (8,)
    assert not tiny.constant(proto, weight.input[2]).any()
    assert tiny.constant(proto, activation.input[2]).dtype == np.uint8
    assert tiny.constant(proto, bias.input[0]).dtype == np.int32
    # Relu and Clip are the ends of the range after them
    assert not {"Relu", "Clip"} & {node.op_type for node in proto.graph.node}


def test_ranges_are_least_and_greatest_over_the_samples(
    model: str, quantize: Quantize, tmp_path: Path
) -> None:
    _, proto = quantize()
    low, high = tiny.range_of(proto, "x")
    step = (high - low) / 255
    assert low == pytest.approx(tiny.images().min(), abs=step)
    assert high == pytest.approx(tiny.images().max(), abs=step)
    whole = onnx.load(model)
    whole.graph.output.append(onnx.ValueInfoProto(name="r1"))
    onnx.save(whole, str(tmp_path / "whole.onnx"))
    peak = tiny.outputs_of(str(tmp_path / "whole.onnx"), tiny.images(), "r1").max()
    assert tiny.range_of(proto, "r1") == pytest.approx((0.0, peak), rel=1e-5)


def test_answer_holds_every_effective_option_and_the_tools(
    ort: ModuleType, model: str, tmp_path: Path
) -> None:
    data = tiny.samples(tmp_path / "few.npz", x=tiny.images(2))
    answer = ort.quantize_model(model, str(tmp_path), data, {"percentile": 99, "exclude": ["skip"]})
    assert set(answer["options"]) == set(ort.QUANTIZE_OPTIONS)
    assert answer["options"]["activation"] == "quint8"
    assert answer["options"]["percentile"] == 99
    assert answer["options"]["exclude"] == ["skip"]
    assert {"Conv", "Gemm"} <= set(answer["options"]["op_types"])
    assert answer["tools"] == ort.probe()["tools"]
    assert set(answer["tools"]) == {"onnxruntime", "onnx"}


def test_nothing_is_written_but_the_quantized_model(
    model: str, quantize: Quantize, tmp_path: Path
) -> None:
    before = hashlib.sha256(Path(model).read_bytes()).hexdigest()
    quantize()
    assert hashlib.sha256(Path(model).read_bytes()).hexdigest() == before
    assert [path.name for path in Path(model).parent.iterdir()] == ["net.onnx"]
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["quantized.onnx"]


def test_made_twice_it_is_the_same_bytes(quantize: Quantize) -> None:
    assert quantize()[1].SerializeToString() == quantize()[1].SerializeToString()


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_entropy_and_percentile_cut_a_tail_that_minmax_keeps(
    model: str, quantize: Quantize, tmp_path: Path, method: str
) -> None:
    arrays = tiny.images()
    arrays[3, 0, 1, 5, 5] = 60.0
    tail = tiny.samples(tmp_path / "tail.npz", x=arrays)
    _, wide = quantize(data=tail)
    path, narrow = quantize(data=tail, calibration_method=method, percentile=99.9)
    assert tiny.range_of(wide, "x")[1] > 58
    assert 2 < tiny.range_of(narrow, "x")[1] < 20
    assert fidelity_db(model, path) > 20


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_an_activation_that_never_changes_is_no_obstacle(
    model: str, quantize: Quantize, tmp_path: Path, method: str
) -> None:
    still = tiny.samples(tmp_path / "still.npz", x=np.ones((4, 1, 3, 16, 16), np.float32))
    _, proto = quantize(data=still, calibration_method=method)
    assert tiny.range_of(proto, "x") == pytest.approx((0.0, 1.0))


def test_entropy_keeps_the_whole_of_an_even_distribution(ort: ModuleType) -> None:
    counts = np.full(ort.BINS, 100, np.int64)
    assert ort.clip(counts, -1.0, 1.0, {"calibration_method": "entropy"}) == (-1.0, 1.0)


@given(
    seed=st.integers(0, 2**32 - 1),
    sparsity=st.floats(0, 0.999),
    percentiles=st.tuples(st.floats(50, 100), st.floats(50, 100)).map(sorted),
    low=st.floats(-10, 0),
)
def test_ranges_lie_within_and_a_higher_percentile_is_no_narrower(
    ort: ModuleType, seed: int, sparsity: float, percentiles: list[float], low: float
) -> None:
    draw = np.random.default_rng(seed)
    counts = draw.integers(1, 1000, ort.BINS) * (draw.random(ort.BINS) >= sparsity)
    counts[draw.integers(ort.BINS)] += 1
    high = low + 5.0
    inner, outer = (
        ort.clip(counts, low, high, {"calibration_method": "percentile", "percentile": p})
        for p in percentiles
    )
    assert low <= outer[0] <= inner[0] <= inner[1] <= outer[1] <= high
    found = ort.clip(counts, low, high, {"calibration_method": "entropy"})
    assert low <= found[0] < found[1] <= high


@pytest.mark.parametrize(
    ("options", "kind", "zeros"),
    [
        ({"activation": "qint8"}, np.int8, set(range(-128, 128))),
        ({"activation": "qint8", "symmetric_activation": True}, np.int8, {0}),
        ({"symmetric_activation": True}, np.uint8, {127, 128}),
    ],
)
def test_activation_kinds(
    model: str, quantize: Quantize, options: dict[str, Any], kind: type, zeros: set[int]
) -> None:
    path, proto = quantize(**options)
    nodes = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    points = [tiny.constant(proto, node.input[2]) for node in nodes]
    assert {point.dtype for point in points} == {np.dtype(kind)}
    assert {int(point) for point in points} <= zeros
    # a symmetric range cannot stand for the lower end of Relu and Clip
    kept = {"Relu", "Clip"} & {node.op_type for node in proto.graph.node}
    assert bool(kept) == options.get("symmetric_activation", False)
    assert fidelity_db(model, path) > 20


def test_weight_options(quantize: Quantize) -> None:
    _, proto = quantize(
        per_channel=False, weight="quint8", symmetric_weight=False, quantize_bias=False
    )
    first = tiny.node_named(proto, "first")
    weight = tiny.maker_of(proto, first.input[1])
    assert tiny.constant(proto, weight.input[0]).dtype == np.uint8
    assert tiny.constant(proto, weight.input[1]).shape == ()
    assert first.input[2] == "b1"
    _, short = quantize(reduce_range=True)
    weight = tiny.maker_of(short, tiny.node_named(short, "first").input[1])
    assert np.abs(tiny.constant(short, weight.input[0]).astype(int)).max() <= 64


def test_excluded_nodes_stay_in_float(quantize: Quantize) -> None:
    _, whole = quantize()
    _, proto = quantize(exclude=["first", "relu"])
    assert tiny.node_named(whole, "first").input[1] != "w1"
    assert list(tiny.node_named(proto, "first").input) == ["x", "w1", "b1"]
    assert tiny.node_named(proto, "relu").op_type == "Relu"
    assert tiny.node_named(proto, "depthwise").input[1] != "w2"


def test_only_the_operators_named_are_quantized(quantize: Quantize) -> None:
    _, proto = quantize(op_types=["Conv"])
    assert tiny.node_named(proto, "classifier").input[1] == "w4"
    weight = tiny.maker_of(proto, tiny.node_named(proto, "first").input[1])
    assert weight.op_type == "DequantizeLinear"


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"exclude": ["frist"]}, "exclude: node 'frist' is not known", "'first'"),
        ({"op_types": ["Covn"]}, "op_types: operator 'Covn' is not known", "'Conv'"),
        ({"calibration_metod": "minmax"}, "option 'calibration_metod'", "'calibration_method'"),
        ({"activation": "uint8"}, "activation: 'uint8' is not known", "'quint8'"),
        ({"per_channel": "yes"}, "option per_channel is 'yes'", "type"),
        ({"exclude": "first"}, "option exclude is 'first'", "type"),
    ],
)
def test_wrong_options_name_what_is_nearest(
    ort: ModuleType, quantize: Quantize, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ort.BadInput) as caught:
        quantize(**options)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing; the model's inputs are x"),
        ({"image": tiny.images()}, "holds image (16, 1, 3, 16, 16); the model's inputs are x"),
        ({"x": tiny.images(0)}, "holds x (0, 1, 3, 16, 16)"),
        ({"x": np.array(1.0, np.float32)}, "holds x ()"),
        ({"x": tiny.images()[:, 0]}, "float32 (16, 3, 16, 16), expected float32 (samples, 1, 3,"),
        ({"x": tiny.images()[..., :8]}, "float32 (16, 1, 3, 16, 8), expected float32 (samples,"),
        ({"x": tiny.images(kind=np.float64)}, "float64 (16, 1, 3, 16, 16), expected float32"),
    ],
)
def test_calibration_that_does_not_fit_says_what_was_found_and_expected(
    ort: ModuleType, quantize: Quantize, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(ort.BadInput) as caught:
        quantize(data=tiny.samples(tmp_path / "wrong.npz", **arrays))
    assert message in str(caught.value)
    assert caught.value.hint


def test_calibration_that_is_missing_broken_or_not_finite(
    ort: ModuleType, quantize: Quantize, tmp_path: Path
) -> None:
    with pytest.raises(ort.BadInput, match="needs calibration data") as caught:
        quantize(data=None)
    assert "--calibration" in caught.value.hint
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(ort.BadInput, match=r"is no \.npz of arrays"):
        quantize(data=str(tmp_path / "text.npz"))
    arrays = tiny.images()
    arrays[5, 0, 0, 0, 0] = np.nan
    with pytest.raises(ort.BadInput, match="not finite on sample 5"):
        quantize(data=tiny.samples(tmp_path / "nan.npz", x=arrays))


def test_a_quantized_model_is_taken_as_it_is(
    ort: ModuleType, quantize: Quantize, tmp_path: Path
) -> None:
    path, _ = quantize()
    again = ort.quantize_model(path, str(tmp_path), None, {})
    assert again["path"] == path
    assert "quantized already" in again["warnings"][0]
    integers = ort.compile_model(path, str(tmp_path), "int8", None, {})["path"]
    assert ort.quantize_model(integers, str(tmp_path), None, {})["path"] == integers


def test_free_batch_axis_takes_samples_of_any_batch(quantize: Quantize, tmp_path: Path) -> None:
    model = tiny.conv_net(tmp_path / "free.onnx", batch="N")
    arrays = tiny.images(16).reshape(8, 2, 3, 16, 16)
    path, _ = quantize(model, tiny.samples(tmp_path / "pairs.npz", x=arrays))
    assert tiny.snr_db(tiny.outputs_of(model, arrays), tiny.outputs_of(path, arrays)) > 30


def test_several_inputs_of_which_one_is_of_integers(
    ort: ModuleType, quantize: Quantize, tmp_path: Path
) -> None:
    draw = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look"),
        helper.make_node("Add", ["rows", "x"], ["both"], name="add"),
        helper.make_node("MatMul", ["both", "w"], ["y"], name="mix"),
    ]
    model = tiny.write(
        tmp_path / "two.onnx",
        nodes,
        [tiny.value("ids", (4,), TensorProto.INT64), tiny.value("x", (4, 8))],
        [tiny.value("y", (4, 6)), tiny.value("both", (4, 8))],
        {
            "table": draw.standard_normal((10, 8)).astype(np.float32),
            "w": draw.standard_normal((8, 6)).astype(np.float32),
        },
    )
    ids = draw.integers(0, 10, (12, 4))
    x = draw.standard_normal((12, 4, 8)).astype(np.float32)
    data = tiny.samples(tmp_path / "two.npz", ids=ids, x=x)
    path, proto = quantize(model, data)
    assert Counter(node.op_type for node in proto.graph.node)["QuantizeLinear"] >= 3
    rows = ort.layer_errors(model, path, data, {})["layers"]
    assert {row["layer"] for row in rows} == {"look", "add", "mix"}
    assert min(row["snr_db"] for row in rows) > 25


def test_an_old_opset_is_raised_to_one_with_quantization_by_channel(
    quantize: Quantize, tmp_path: Path
) -> None:
    old = tiny.conv_net(tmp_path / "old.onnx", opset=12)
    path, proto = quantize(old)
    assert next(o.version for o in proto.opset_import if not o.domain) == 13
    assert fidelity_db(old, path) > 30


def test_half_precision_is_quantized(quantize: Quantize, tmp_path: Path) -> None:
    half = tiny.conv_net(tmp_path / "half.onnx", opset=19, kind=np.float16)
    arrays = tiny.images(kind=np.float16)
    path, _ = quantize(half, tiny.samples(tmp_path / "half.npz", x=arrays))
    assert tiny.snr_db(tiny.outputs_of(half, arrays), tiny.outputs_of(path, arrays)) > 20


def test_weights_beyond_protobuf_lie_beside_the_model(
    ort: ModuleType, quantize: Quantize, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(2)
    weight = draw.standard_normal((64, 64)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="wide")
    ends = [tiny.value("x", (1, 64))], [tiny.value("y", (1, 64))]
    small = tiny.write(tmp_path / "small.onnx", [node], *ends, {"w": weight})
    arrays = draw.standard_normal((8, 1, 64)).astype(np.float32)
    data = tiny.samples(tmp_path / "rows.npz", x=arrays)
    expected = tiny.outputs_of(quantize(small, data)[0], arrays)
    large = str(tmp_path / "given" / "large.onnx")
    onnx.save(onnx.load(small), large, save_as_external_data=True, location="large.bin")
    monkeypatch.setattr(ort, "EXTERNAL_BYTES", 1000)
    path, _ = quantize(large, data)
    names = sorted(p.name for p in (tmp_path / "output").iterdir())
    assert names == ["quantized.onnx", "quantized.onnx.data"]
    np.testing.assert_array_equal(tiny.outputs_of(path, arrays), expected)
    artifact = ort.compile_model(large, str(tmp_path), "fp32", None, {})["path"]
    assert (tmp_path / "model.onnx.data").stat().st_size >= weight.nbytes
    np.testing.assert_array_equal(tiny.outputs_of(artifact, arrays), tiny.outputs_of(small, arrays))
