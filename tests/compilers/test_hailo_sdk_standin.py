"""The stand-in for the Hailo SDK: what it computes, and what it prints."""

import json
import os
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_onnx as tiny
from hailo_sdk import (
    LOW,
    NORMALIZED,
    Array,
    ClientRunner,
    InferenceContext,
    Runner,
    States,
    branches,
    infer,
    parse,
    pictures,
    refused,
    reports,
    snr_db,
    standin,
    truth,
)
from onnx import helper


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, and nothing else said of the machine."""
    for name in [name for name in os.environ if name.startswith("HAILO_STANDIN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "net.onnx")


@pytest.fixture
def parsed(model: str) -> Runner:
    return parse(model)


def test_parsing_names_layers_and_lists_what_went_into_them(model: str) -> None:
    runner = ClientRunner(hw_arch="hailo8")
    hn, weights = runner.translate_onnx_model(model, net_name="net")
    kinds = {name: layer["type"] for name, layer in hn["layers"].items()}
    assert kinds["net/input_layer1"] == "input_layer"
    assert kinds["net/dw1"] == "dw"
    assert kinds["net/fc1"] == "fc"
    assert hn["layers"]["net/input_layer1"]["input_shapes"] == [[-1, 16, 16, 3]]
    assert hn["layers"]["net/fc1"]["output_shapes"] == [[-1, 5]]
    assert len(hn["layers"]["net/conv1"]["original_names"]) == 2
    assert hn["net_params"]["output_layers_order"] == ["net/fc1"]
    assert weights["net/conv1/kernel:0"].shape == (3, 3, 3, 8)
    assert runner.state is States.HAILO_MODEL
    assert [layer.name for layer in runner.get_hn_model().get_input_layers()] == [
        "net/input_layer1"
    ]


def test_the_native_context_is_the_model_and_knows_no_script(parsed: Runner, model: str) -> None:
    data = pictures(6) / 255
    parsed.load_model_script(NORMALIZED)
    native = infer(parsed, InferenceContext.SDK_NATIVE, data)
    assert native.shape == (6, 5)
    np.testing.assert_allclose(native, truth(model, data), rtol=1e-4, atol=1e-4)


def test_the_optimized_context_normalizes_inside(parsed: Runner, model: str) -> None:
    data = pictures(6)
    colours = "turn1 = input_conversion(net/input_layer1, bgr_to_rgb)\n"
    parsed.load_model_script(NORMALIZED + colours)
    refused("InvalidStateException", infer, parsed, InferenceContext.SDK_FP_OPTIMIZED, data)
    parsed.optimize_full_precision(calib_data=data)
    found = infer(parsed, InferenceContext.SDK_FP_OPTIMIZED, data)
    # what stands last in the script is met first: colours turned, then normalized
    normalized = (data[..., ::-1] - [10, 20, 30]) / [50, 60, 70]
    np.testing.assert_allclose(
        found, truth(model, normalized.astype(np.float32)), rtol=1e-4, atol=1e-4
    )
    layers = parsed.get_hn_dict()["layers"]
    assert layers["net/normalization1"]["output"] == ["net/conv1"]
    assert layers["net/input_layer1"]["output"] == ["net/turn1"]


def test_the_quantized_context_is_near_and_the_hef_computes_the_same(
    parsed: Runner,
) -> None:
    data = pictures(64)
    parsed.load_model_script(NORMALIZED + LOW)
    refused("InvalidStateException", infer, parsed, InferenceContext.SDK_QUANTIZED, data)
    parsed.optimize(data)
    assert parsed.state is States.QUANTIZED_MODEL
    exact = infer(parsed, InferenceContext.SDK_FP_OPTIMIZED, data)
    rounded = infer(parsed, InferenceContext.SDK_QUANTIZED, data)
    assert 25 < snr_db(exact, rounded) < 80
    with zipfile.ZipFile(BytesIO(parsed.compile())) as hef:
        said, chip = json.loads(hef.read("hef.json")), hef.read("model.onnx")
    assert parsed.state is States.COMPILED_MODEL
    (taken,), (given,) = said["inputs"], said["outputs"]
    assert (taken["name"], taken["shape"], taken["dtype"]) == (
        "net/input_layer1",
        [16, 16, 3],
        "uint8",
    )
    assert (taken["scale"], taken["zero_point"]) == (1.0, 0)
    assert (given["name"], given["shape"], given["order"]) == ("net/fc1", [1, 1, 5], "NC")
    session = onnxruntime.InferenceSession(chip)
    rows = [session.run([given["onnx"]], {taken["onnx"]: row[None]})[0] for row in data]
    assert snr_db(rounded, np.concatenate(rows).reshape(64, 5)) > 40
    steps = np.concatenate(rows) / given["scale"]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_wider_layers_are_nearer_and_narrow_ones_farther(model: str) -> None:
    found = {}
    for mode in ("a8_w4", "a8_w8", "a16_w16"):
        runner = ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(model, net_name="net")
        script = NORMALIZED + LOW + f"quantization_param({{*}}, precision_mode={mode})"
        runner.load_model_script(script)
        runner.optimize(pictures(64))
        exact = infer(runner, InferenceContext.SDK_FP_OPTIMIZED, pictures(16, 1))
        rounded = infer(runner, InferenceContext.SDK_QUANTIZED, pictures(16, 1))
        found[mode] = snr_db(exact, rounded)
    assert found["a8_w4"] + 5 < found["a8_w8"] < found["a16_w16"] - 10


def test_normalizing_twice_ruins_the_optimized_model(parsed: Runner, model: str) -> None:
    data = ((pictures(64) - 20) / 60).astype(np.float32)
    parsed.load_model_script(NORMALIZED + LOW)
    parsed.optimize(data)
    found = infer(parsed, InferenceContext.SDK_FP_OPTIMIZED, data)
    assert snr_db(truth(model, data), found) < 10


def test_an_archive_goes_on_where_the_other_stopped(parsed: Runner, tmp_path: Path) -> None:
    paths = [tmp_path / f"{word}.har" for word in ("native", "quantized", "compiled")]
    parsed.save_har(paths[0])
    second = ClientRunner(har=str(paths[0]))
    second.load_model_script(NORMALIZED + LOW)
    second.optimize(pictures(64))
    second.save_har(str(paths[1]))
    third = ClientRunner(hw_arch="hailo8l", har=str(paths[1]))
    assert (third.state, third.model_script) == (States.QUANTIZED_MODEL, NORMALIZED + LOW)
    assert (third.hw_arch, third.model_name) == ("hailo8l", "net")
    both = [infer(r, InferenceContext.SDK_QUANTIZED, pictures(8)) for r in (second, third)]
    np.testing.assert_array_equal(*both)
    first = third.compile()
    third.save_har(paths[2])
    fourth = ClientRunner(har=paths[2])
    assert fourth.state is States.COMPILED_MODEL
    assert fourth.compile() == first
    assert b"hailo8l" in zipfile.ZipFile(BytesIO(first)).read("hef.json")
    refused("HailoArchiveException", ClientRunner, har=__file__)


def test_the_same_model_and_data_give_the_same_bytes(model: str) -> None:
    made = []
    for _ in range(2):
        runner = ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(model, net_name="net")
        runner.load_model_script(NORMALIZED)
        runner.optimize(pictures(64))
        made.append(runner.compile())
    assert made[0] == made[1]


def test_end_nodes_cut_and_outputs_come_in_their_order(tmp_path: Path) -> None:
    runner = ClientRunner(hw_arch="hailo8")
    path = branches(tmp_path)
    hn, _ = runner.translate_onnx_model(path, net_name="two", end_node_names=["right", "left"])
    assert hn["net_params"]["output_layers_order"] == ["two/conv3", "two/conv2"]
    assert hn["layers"]["two/conv1"]["original_names"] == ["stem", "gate", "swish"]
    assert hn["layers"]["two/output_layer1"]["original_names"] == ["right"]
    data = np.random.default_rng(0).random((5, 8, 8, 3), np.float32)
    right, left = infer(runner, InferenceContext.SDK_NATIVE, data)
    assert right.shape == left.shape == (5, 8, 8, 4)
    session = onnxruntime.InferenceSession(path)
    exact = session.run(["d"], {"x": data[:1].transpose(0, 3, 1, 2)})[0]
    np.testing.assert_allclose(right[:1], exact.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_several_inputs_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Conv", ["z", "w"], ["b"], "second"),
        helper.make_node("Sub", ["a", "b"], ["y"], "less"),
    ]
    ends = [tiny.value(name, [1, 3, 4, 4]) for name in ("x", "z")]
    weights = {"w": np.random.default_rng(0).random((2, 3, 1, 1), np.float32)}
    path = tiny.write(tmp_path / "n.onnx", nodes, ends, [tiny.value("y", [1, 2, 4, 4])], weights)
    runner = ClientRunner(hw_arch="hailo8")
    runner.translate_onnx_model(path, net_name="two")
    text = refused("AllocatorScriptParserException", runner.load_model_script, NORMALIZED)
    assert text.endswith("must name its input layer: two/input_layer1, two/input_layer2")
    one = "n1 = normalization([0, 0, 0], [2, 2, 2], two/input_layer2)\n"
    runner.load_model_script(one + LOW)
    data = pictures(64)[:, :4, :4]
    refused("InvalidArgumentsException", runner.optimize, data)
    runner.optimize({"two/input_layer1": data, "two/input_layer2": data})
    fed = {"two/input_layer2": data[:5], "two/input_layer1": data[:5] / 2}
    found = infer(runner, InferenceContext.SDK_FP_OPTIMIZED, fed)
    np.testing.assert_allclose(found, np.zeros((5, 4, 4, 2)), atol=1e-4)


def test_shapes_computed_in_the_model_are_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Shape", ["a"], ["all"]),
        helper.make_node("Gather", ["all", "zero"], ["one"]),
        helper.make_node("Unsqueeze", ["one"], ["row"], axes=[0]),
        helper.make_node("Concat", ["row", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["a", "wanted"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "v"], ["y"], "dense"),
    ]
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {
        "w": rng.random((2, 3, 1, 1), np.float32),
        "v": rng.random((32, 4), np.float32),
        "zero": np.array(0, np.int64),
        "rest": np.array([-1], np.int64),
    }
    inputs, outputs = [tiny.value("x", [1, 3, 4, 4])], [tiny.value("y", [1, 4])]
    path = tiny.write(tmp_path / "n.onnx", nodes, inputs, outputs, weights, opset=11)
    runner = ClientRunner(hw_arch="hailo8")
    hn, _ = runner.translate_onnx_model(path)
    assert hn["layers"]["model/fc1"]["original_names"] == ["flat", "dense"]
    data = pictures(3)[:, :4, :4] / 255
    np.testing.assert_allclose(
        infer(runner, InferenceContext.SDK_NATIVE, data), truth(path, data), rtol=1e-4
    )


def test_all_documented_commands_are_taken_and_appended(parsed: Runner, tmp_path: Path) -> None:
    lines = [
        "normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])",
        "input_conversion1 = input_conversion(net/input_layer1, bgr_to_rgb)",
        "model_optimization_flavor(optimization_level=2, compression_level=0, batch_size=8)",
        "model_optimization_config(calibration, batch_size=8, calibset_size=64)",
        "model_optimization_config(globals, multiproc_policy=disabled)",
        "model_optimization_config(negative_exponent, layers={*}, rank=0)",
        "model_optimization_config(checker_cfg, policy=enabled, dataset_size=64,"
        " analyze_mode=advanced)",
        "pre_quantization_optimization(equalization, policy=enabled)",
        "post_quantization_optimization(finetune, policy=enabled, learning_rate=0.0001,"
        " epochs=4, dataset_size=64)",
        "quantization_param({conv1, conv2}, precision_mode=a16_w16)",
        "change_output_activation(fc1, sigmoid)",
        "performance_param(compiler_optimization_level=max)",
        "resources_param(max_utilization=0.8)",
        "allocator_param(timeout=25m)",
        "context_switch_param(mode=enabled)",
    ]
    path = tmp_path / "net.alls"
    path.write_text("\n".join(lines), encoding="utf-8")
    parsed.load_model_script(path)
    parsed.load_model_script("set_seed(seed=1)\n", append=True)
    assert parsed.model_script == "\n".join([*lines, "set_seed(seed=1)\n"])
    parsed.optimize(pictures(64))
    found = infer(parsed, InferenceContext.SDK_QUANTIZED, pictures(8))
    assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize(
    ("script", "count", "gpu", "wanted"),
    [
        (
            "",
            1024,
            "0",
            "Reducing optimization level to 0 (the accuracy won't be optimized and compression"
            " won't be used) because there's no available GPU",
        ),
        (
            "",
            100,
            "0",
            "Reducing optimization level to 0 (the accuracy won't be optimized and compression"
            " won't be used) because there's less data than the recommended amount (1024), and"
            " there's no available GPU",
        ),
        (
            "",
            100,
            "1",
            "Reducing optimization level to 1 (the accuracy won't be optimized and compression"
            " won't be used) because there's less data than the recommended amount (1024)",
        ),
        ("", 1024, "1", "Using default optimization level of 2"),
        (
            "model_optimization_flavor(optimization_level=1, compression_level=2)\n",
            64,
            "0",
            "Reducing compression level to 0 because requested optimization level equal or less"
            " than 1",
        ),
    ],
)
def test_the_level_done_is_in_the_log(
    parsed: Runner,
    *,
    script: str,
    count: int,
    gpu: str,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HAILO_STANDIN_GPU", gpu)
    if script:
        parsed.load_model_script(script)
    parsed.optimize(pictures(count))
    lines = capfd.readouterr().out.splitlines()
    mark = "info" if wanted.startswith("Using") else "warning"
    assert f"[{mark}] {wanted}" in lines
    assert "[info] Using dataset with 64 entries for calibration" in lines


def test_a_level_that_is_named_is_kept_unless_the_machine_reduces(
    model: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = []
    for reduces in ("0", "1"):
        monkeypatch.setenv("HAILO_STANDIN_REDUCE", reduces)
        runner = ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(model)
        runner.load_model_script("model_optimization_flavor(optimization_level=2)\n")
        runner.optimize(pictures(64))
        logs.append(capfd.readouterr().out)
    kept, reduced = logs
    assert "Reducing optimization level" not in kept
    assert "Using dataset with 64 entries for finetune" in kept
    assert "[info] Bias Correction skipped" in kept
    assert "[warning] Reducing optimization level to 0" in reduced
    assert "[info] Quantization-Aware Fine-Tuning skipped" in reduced


def test_noise_is_kept_in_the_archive_and_a_profile_is_an_estimate(
    parsed: Runner, tmp_path: Path
) -> None:
    parsed.load_model_script(NORMALIZED + LOW)
    parsed.optimize(pictures(64))
    assert parsed.analyze_noise(pictures(8), batch_size=2, data_count=8) is None
    parsed.save_har(tmp_path / "noise.har")
    with zipfile.ZipFile(tmp_path / "noise.har") as archive:
        noise = json.loads(archive.read("har.json"))["noise"]
    assert list(noise) == ["net/fc1"]
    assert noise["net/fc1"] > 25
    export = parsed.profile(should_use_logical_layers=True)
    assert export["stats"]["standin"] is True
    # 8x27 + 8x9 + 8x8 products at 256 places, 8x5 at one
    assert export["stats"]["macs"] == (216 + 72 + 64) * 256 + 40
    report = tmp_path / "report.html"
    table = reports.ReactReportGenerator(export, report).create_report(
        should_open_web_browser=False
    )
    assert table.splitlines()[1] == "net/input_layer1,input_layer"
    assert "by a stand-in" in report.read_text()


def test_a_small_hef_needs_no_sdk(model: str, tmp_path: Path) -> None:
    path = tmp_path / "small.hef"
    said = standin.write_hef(path, model, name="small", hw_arch="hailo8l", hef_version=99)
    assert (said["hef_version"], said["hw_arch"], said["standin"]) == (99, "hailo8l", True)
    with zipfile.ZipFile(path) as hef:
        session = onnxruntime.InferenceSession(hef.read("model.onnx"))
    data = pictures(1) / 255
    found = session.run(["small/fc1"], {"small/input_layer1": data})[0]
    np.testing.assert_allclose(found.reshape(1, 5), truth(model, data), rtol=1e-4, atol=1e-5)
