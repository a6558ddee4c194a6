"""What cannot be compiled for ESP-DL, and why: models, operators, data, options, processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import espdl_nets as nets
import numpy as np
import psutil
import pytest
import tiny_onnx as tiny
from onnx import TensorProto, helper

pytestmark = pytest.mark.skipif(
    find_spec("esp_ppq") is None, reason="the optional toolchain esp-ppq is not installed"
)
Compile = Callable[..., dict[str, Any]]
node = helper.make_node
IMAGE = (1, 3, 8, 8)
CONV = [
    node("Conv", ["x", "w1"], ["c"], name="first", pads=[1, 1, 1, 1]),
    node("Relu", ["c"], ["r"], name="relu"),
]


@pytest.fixture(scope="module")
def espdl() -> ModuleType:
    return tiny.program("compilers", "espdl")


@pytest.fixture
def compile_it(espdl: ModuleType, tmp_path: Path) -> Compile:
    """Compile a model with samples of a shape, or without any."""

    def compiled(
        model: str,
        shape: tuple[int, ...] | None = IMAGE,
        precision: str = "int8",
        count: int = 4,
        **options: object,
    ) -> dict[str, Any]:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        data = None
        if shape is not None:
            values = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
            data = tiny.samples(tmp_path / "calibration.npz", x=values)
        made: dict[str, Any] = espdl.compile_model(
            model, str(tmp_path / "artifact"), precision, data, options
        )
        return made

    return compiled


@pytest.fixture
def model(tmp_path: Path) -> str:
    return nets.network(tmp_path, "plain").model


def ending_in(path: Path, last: Any, outputs: list[Any], **weights: nets.Array) -> str:
    """A convolution and a Relu (their output is r), then a node of another kind."""
    inputs = [tiny.value("x", IMAGE)]
    constants = {"w1": nets.drawn(1, 8, 3, 3, 3), **weights}
    return tiny.write(path, [*CONV, last], inputs, outputs, constants)


@pytest.mark.parametrize(
    ("last", "outputs", "weights", "message", "hint"),
    [
        pytest.param(
            node("GridSample", ["r", "grid"], ["y"], name="warp"),
            [tiny.value("y", (1, 8, 4, 4))],
            {"grid": np.zeros((1, 4, 4, 2), np.float32)},
            "'warp' (GridSample): it has no such operator",
            "end the model before it",
            id="an operator that esp-ppq lacks",
        ),
        pytest.param(
            node("ArgMax", ["r"], ["y"], name="best", axis=1),
            [tiny.value("y", (1, 1, 8, 8), TensorProto.INT64)],
            {},
            "best (ArgMax)",
            "largest output is found on the host",
            id="an output of whole numbers",
        ),
        pytest.param(
            node("Sin", ["r"], ["y"], name="wave"),
            [tiny.value("y", (1, 8, 8, 8))],
            {},
            "compute in float: wave (Sin)",
            "end the model before it",
            id="an operator that esp-ppq would leave in float",
        ),
        pytest.param(
            node("Identity", ["x"], ["y"], name="same"),
            [tiny.value("r", (1, 8, 8, 8)), tiny.value("y", IMAGE)],
            {},
            "output 'y' is none of the quantized model's",
            "drop it",
            id="an input passed on",
        ),
    ],
)
def test_operators_are_unsupported_by_node_with_a_remedy(
    espdl: ModuleType,
    compile_it: Compile,
    *,
    tmp_path: Path,
    last: Any,
    outputs: list[Any],
    weights: dict[str, nets.Array],
    message: str,
    hint: str,
) -> None:
    path = ending_in(tmp_path / "odd.onnx", last, outputs, **weights)
    if last.op_type == "GridSample":  # it came with a later opset than the others have
        path = tiny.write(
            tmp_path / "odd.onnx",
            [*CONV, last],
            [tiny.value("x", IMAGE)],
            outputs,
            {"w1": nets.drawn(1, 8, 3, 3, 3), **weights},
            opset=20,
        )
    with pytest.raises(espdl.Unsupported) as caught:
        compile_it(path)
    assert type(caught.value).__name__ == "Unsupported"
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert not (tmp_path / "artifact" / "model.espdl").exists()


def test_an_lstm_without_its_state_names_the_way_out(
    espdl: ModuleType, compile_it: Compile, tmp_path: Path
) -> None:
    nodes = [
        node("LSTM", ["x", "w", "r"], ["", "h"], name="memory", hidden_size=4),
        node("Squeeze", ["h", "first"], ["y"], name="last"),
    ]
    weights = {
        "w": nets.drawn(1, 1, 16, 3),
        "r": nets.drawn(2, 1, 16, 4),
        "first": np.array([0], np.int64),
    }
    ends = [tiny.value("x", (5, 1, 3))], [tiny.value("y", (1, 4))]
    path = tiny.write(tmp_path / "lstm.onnx", nodes, *ends, weights)
    with pytest.raises(espdl.Unsupported, match=r"'memory' \(LSTM\): IndexError") as caught:
        compile_it(path, (5, 1, 3))
    assert "initial_h" in caught.value.hint


def test_float_is_unsupported_and_says_why(
    espdl: ModuleType, compile_it: Compile, model: str
) -> None:
    with pytest.raises(espdl.Unsupported, match="'fp32': ESP-DL runs these chips in whole") as got:
        compile_it(model, (1, 3, 16, 16), "fp32")
    assert "int8, int16 or mixed" in got.value.hint


def test_a_quantized_model_is_unsupported_with_the_node(
    espdl: ModuleType, compile_it: Compile, tmp_path: Path, model: str
) -> None:
    data = tiny.samples(tmp_path / "images.npz", x=tiny.images())
    source = tiny.conv_net(tmp_path / "fixed.onnx")
    quantizer = tiny.program("compilers", "ort")
    path = quantizer.quantize_model(source, str(tmp_path), data, {})["path"]
    with pytest.raises(espdl.Unsupported, match=r"node .* is a DequantizeLinear") as caught:
        compile_it(path, (1, 3, 16, 16))
    assert "Give the float model" in caught.value.hint


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((4, 3, 8, 8), TensorProto.FLOAT, "input 'x' has shape [4, 3, 8, 8]: batch 4"),
        ((1, 3, "h", 8), TensorProto.FLOAT, "axis 2 of input 'x' is free (h)"),
        (IMAGE, TensorProto.INT64, "input 'x' is int64"),
    ],
)
def test_inputs_that_no_chip_has_are_unsupported(
    espdl: ModuleType,
    compile_it: Compile,
    *,
    tmp_path: Path,
    shape: tuple[int | str, ...],
    kind: int,
    message: str,
) -> None:
    relu = node("Neg", ["x"], ["y"], name="turn")
    ends = [tiny.value("x", shape, kind)], [tiny.value("y", None, kind)]
    path = tiny.write(tmp_path / "odd.onnx", [relu], *ends)
    with pytest.raises(espdl.Unsupported) as caught:
        compile_it(path)
    assert message in str(caught.value)
    assert caught.value.hint


def test_calibration_data_that_is_missing_or_does_not_fit_is_refused(
    espdl: ModuleType, compile_it: Compile, model: str, tmp_path: Path
) -> None:
    with pytest.raises(espdl.BadInput, match="int8 needs calibration data") as caught:
        compile_it(model, None)
    assert "--calibration" in caught.value.hint
    with pytest.raises(espdl.BadInput, match=r"float32 \(4, 1, 3, 8, 8\), expected float32"):
        compile_it(model, IMAGE)
    other = tiny.samples(tmp_path / "other.npz", z=tiny.images())
    with pytest.raises(espdl.BadInput, match="the model's inputs are x"):
        espdl.compile_model(model, str(tmp_path / "artifact"), "int8", other, {})
    (tmp_path / "text.npz").write_text("no archive")
    text = str(tmp_path / "text.npz")
    with pytest.raises(espdl.BadInput, match=r"text\.npz is no \.npz of arrays"):
        espdl.compile_model(model, str(tmp_path / "artifact"), "int8", text, {})
    with pytest.raises(espdl.BadInput, match="1 calibration sample; esp-ppq takes 2 or more"):
        compile_it(model, (1, 3, 16, 16), calibration_steps=1)


def test_samples_that_are_not_finite_are_named(
    espdl: ModuleType, model: str, tmp_path: Path
) -> None:
    values = tiny.images(4)
    values[2, 0, 1, 3, 5] = np.nan
    data = tiny.samples(tmp_path / "nan.npz", x=values)
    with pytest.raises(espdl.BadInput, match="calibration sample 2 of input 'x' is not finite"):
        espdl.compile_model(model, str(tmp_path), "int8", data, {})


def test_files_that_are_no_model_say_so(
    espdl: ModuleType, compile_it: Compile, tmp_path: Path
) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(espdl.BadInput, match=r"text\.onnx is no ONNX model"):
        compile_it(str(tmp_path / "text.onnx"))
    wrong = node("Relu", ["nowhere"], ["y"], name="lost")
    ends = [tiny.value("x", IMAGE)], [tiny.value("y", IMAGE)]
    path = tiny.write(tmp_path / "wrong.onnx", [wrong], *ends)
    with pytest.raises(espdl.BadInput, match=r"wrong\.onnx is no valid ONNX model.*nowhere"):
        compile_it(path)


@pytest.mark.parametrize(
    ("precision", "options", "message", "hint"),
    [
        ("int8", {"equalisation": True}, "option 'equalisation' is not known", "'equalization'"),
        ("int8", {"equalization": 1}, "option equalization is 1", "type"),
        ("int8", {"tqt_steps": 1.5}, "option tqt_steps is 1.5", "type"),
        ("int8", {"tqt_steps": -1}, "tqt_steps is -1, expected 0 or more", "value"),
        ("int8", {"calibration_steps": 0}, "calibration_steps is 0, expected 1", "value"),
        ("int8", {"calibration_steps": 9000}, "calibration_steps is 9000", "5000"),
        ("int8", {"chip": "esp32-s3"}, "chip: 'esp32-s3' is not known", "'esp32s3'"),
        ("int8", {"calibration_algorithm": "kld"}, "'kld' is not known", "'kl'"),
        ("int8", {"int16_layers": ["first"]}, "and the precision is int8", "precision mixed"),
        ("mixed", {"int16_layers": ["fist"]}, "int16_layers: node 'fist'", "'first'"),
    ],
)
def test_options_are_refused_with_the_nearest_name(
    espdl: ModuleType,
    compile_it: Compile,
    *,
    model: str,
    precision: str,
    options: dict[str, Any],
    message: str,
    hint: str,
) -> None:
    with pytest.raises(espdl.BadInput) as caught:
        compile_it(model, (1, 3, 16, 16), precision, **options)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_search_of_two_inputs_is_refused(espdl: ModuleType, tmp_path: Path) -> None:
    given = nets.network(tmp_path, "ends")
    with pytest.raises(espdl.BadInput, match="esp-ppq searches models of one input, this has 2"):
        espdl.compile_model(given.model, str(tmp_path), "int8", given.calibration, {"search": True})


def test_a_process_that_dies_is_told_with_its_signal(
    espdl: ModuleType, compile_it: Compile, model: str, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "steps").mkdir()
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    (tmp_path / "steps" / "quantize.py").write_text(code)
    monkeypatch.setattr(espdl, "STEPS", tmp_path / "steps")
    with pytest.raises(RuntimeError, match="ended by signal 9 without an answer, most likely"):
        compile_it(model, (1, 3, 16, 16))


def test_the_process_that_quantizes_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    given = nets.network(tmp_path, "plain")
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('program', sys.argv[1])\n"
        "program = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(program)\n"
        "program.compile_model(sys.argv[2], sys.argv[3], 'int8', sys.argv[4],"
        " {'tqt_steps': 100000})\n"
    )
    program = str(tiny.ROOT / "compilers" / "espdl.py")
    asking = subprocess.Popen(
        [sys.executable, "-c", code, program, given.model, str(tmp_path), given.calibration],
        stderr=subprocess.PIPE,
        text=True,
    )
    children: list[psutil.Process] = []
    assert asking.stderr is not None
    for line in asking.stderr:
        children = children or psutil.Process(asking.pid).children()
        if "Calibration" in line:
            break
    assert len(children) == 1
    os.kill(asking.pid, signal.SIGKILL)
    asking.wait()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert gone
    asking.stderr.close()
