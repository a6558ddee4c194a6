"""The stand-in for the Hailo SDK: what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx as tiny
from hailo_sdk import (
    FAKES,
    LOW,
    ClientRunner,
    InferenceContext,
    Runner,
    States,
    branches,
    parse,
    pictures,
    refused,
    sdk,
)


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


def test_what_no_device_runs_is_named_with_the_end_nodes_before_it(tmp_path: Path) -> None:
    runner = ClientRunner(hw_arch="hailo8")
    parse, path = runner.translate_onnx_model, branches(tmp_path)
    text = refused("ParsingWithRecommendationException", parse, path, net_name="two")
    assert "UnsupportedShuffleLayerError in op turned" in text
    assert "UnsupportedOperationError in op best: TopK operation is unsupported" in text
    assert text.endswith("using these end node names: left, right")
    text = refused("MisspellNodeError", parse, path, end_node_names=["leftt"])
    assert text.startswith("Unable to find end node names: ['leftt']")
    refused("MisspellNodeError", parse, path, end_node_names=["c"])
    refused("MisspellNodeError", parse, path, start_node_names=["z"], end_node_names=["left"])
    assert runner.state is States.UNINITIALIZED


def test_a_batch_and_other_shapes_are_refused(tmp_path: Path, model: str) -> None:
    parse = ClientRunner(hw_arch="hailo8").translate_onnx_model
    two = tiny.conv_net(tmp_path / "two.onnx", batch=2)
    assert "batch of 2" in refused("UnsupportedModelError", parse, two)
    shapes = {"x": [1, 3, 32, 32]}
    assert "[1, 3, 32, 32]" in refused(
        "UnsupportedModelError", parse, model, net_input_shapes=shapes
    )
    refused("UnsupportedModelError", parse, model, net_input_shapes={"z": [1, 3, 16, 16]})
    free = tiny.conv_net(tmp_path / "free.onnx", batch="n")
    hn, _ = parse(free, net_input_shapes={"x": [1, 3, 16, 16]})
    assert hn["layers"]["model/input_layer1"]["output_shapes"] == [[-1, 16, 16, 3]]


def test_calls_out_of_order_are_refused(parsed: Runner, model: str) -> None:
    fresh = ClientRunner(hw_arch="hailo8")
    text = refused("InvalidStateException", fresh.optimize, pictures(64))
    assert text == "The execution of optimize is not available under the state: uninitialized"
    refused("InvalidStateException", fresh.load_model_script, LOW)
    refused("InvalidStateException", fresh.save_har, "x.har")
    refused("InvalidStateException", fresh.compile)
    assert "Did you forget to quantize?" in refused("BackendRuntimeException", parsed.compile)
    refused("InvalidStateException", parsed.translate_onnx_model, model)
    refused("InvalidStateException", parsed.analyze_noise, pictures(4))
    parsed.optimize(pictures(64))
    refused("InvalidStateException", parsed.optimize, pictures(64))
    with parsed.infer_context(InferenceContext.SDK_NATIVE) as closed:
        pass
    refused("InvalidArgumentsException", parsed.infer, closed, pictures(1))
    refused("InvalidArgumentsException", ClientRunner, hw_arch="hailo9")


def test_calibration_data_of_another_kind_is_refused(parsed: Runner, tmp_path: Path) -> None:
    nchw = pictures(64).transpose(0, 3, 1, 2)
    assert refused("BadInputsShape", parsed.optimize, nchw) == (
        "Data shape (3, 16, 16) for layer net/input_layer1 doesn't match network's input shape"
        " (16, 16, 3)"
    )
    refused("BadInputsShape", parsed.optimize, pictures(64)[None])
    refused("AccelerasValueError", parsed.optimize, pictures(64).astype(np.float64))
    refused("AccelerasValueError", parsed.optimize, pictures(0))
    refused("InvalidArgumentsException", parsed.optimize, list(pictures(2)))
    refused("InvalidArgumentsException", parsed.optimize, {"x": pictures(2)})
    refused("InvalidArgumentsException", parsed.optimize, lambda: iter(()))
    refused("FileNotFoundError", parsed.optimize, str(tmp_path / "none.npy"))
    parsed.load_model_script("model_optimization_config(calibration, calibset_size=65)")
    assert "65" in refused("AccelerasValueError", parsed.optimize, pictures(64))
    assert parsed.state is States.HAILO_MODEL
    parsed.load_model_script(LOW)
    np.save(tmp_path / "data.npy", pictures(64).astype(np.uint8))
    parsed.optimize(str(tmp_path / "data.npy"))
    assert parsed.state is States.QUANTIZED_MODEL


@pytest.mark.parametrize(
    ("script", "name", "part"),
    [
        ("normalization([1,2,3], [4,5,6])", "BackendScriptParserException", ">!<normalization("),
        ("# a comment\n" + LOW, "BackendScriptParserException", ">!<# a comment"),
        ("optimise(level=2)", "BackendScriptParserException", ">!<optimise("),
        ("set_seed(seed=1", "BackendScriptParserException", "Parsing failed at:"),
        ("n1 = normalization([1,2], [3,4])", "AllocatorScriptParserException", "2 values"),
        ("n1 = normalization([1,2,3], [4,0,6])", "AllocatorScriptParserException", "zero"),
        ("set_seed(sead=1)", "AllocatorScriptParserException", "No argument named sead"),
        (
            "model_optimization_flavor(optimization_level=5)",
            "AllocatorScriptParserException",
            "-100 to 4",
        ),
        (
            "model_optimization_config(calibration, epochs=4)",
            "AllocatorScriptParserException",
            "No argument named epochs",
        ),
        (
            "model_optimization_config(globals, calibset_size=4)",
            "AllocatorScriptParserException",
            "No argument named calibset_size for globals",
        ),
        ("quantization_param({conv9}, precision_mode=a8_w4)", "HailoNNException", "conv9"),
        ("quantization_param(conv1, precision_mode=a4)", "AllocatorScriptParserException", "a4"),
        ("change_output_activation(conv1, sigmoid)", "AllocatorScriptParserException", "no output"),
        ("c = input_conversion(conv1, bgr_to_rgb)", "AllocatorScriptParserException", "input"),
        ("allocator_param(timeout=soon)", "AllocatorScriptParserException", "25m"),
        (
            'nms_postprocess("none.json", meta_arch=yolov8)',
            "AllocatorScriptParserException",
            "isn't found in none.json",
        ),
    ],
)
def test_a_wrong_script_is_refused(parsed: Runner, script: str, name: str, part: str) -> None:
    assert part in refused(name, parsed.load_model_script, script + "\n")
    assert parsed.model_script == ""


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"HAILO_STANDIN_PYTHON": "3.13"}, "no wheel for Python 3.13"),
        ({"HAILO_STANDIN_MACHINE": "aarch64"}, "no wheel for aarch64"),
        ({}, "[info] No GPU chosen and no suitable GPU found, falling back to CPU."),
    ],
)
def test_the_import_looks_at_the_host(said: dict[str, str], part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import hailo_sdk_client"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(FAKES), **said},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == bool(said)
    assert part in done.stdout + done.stderr
    assert sdk.__version__ == "3.33.0+standin"
