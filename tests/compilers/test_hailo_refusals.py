"""What cannot be compiled for Hailo-8, and why: SDK, models, operators, data, scripts."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hailo_networks as nets
import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
from hailo_networks import dfc_faults, dfc_network, dfc_steps, fault
from onnx import TensorProto, helper

from edgedeploy.errors import MissingError
from edgedeploy.worker import SERVE, Worker

Table = dict[str, Any]
Compile = Callable[..., Table]
node = helper.make_node
INT64 = TensorProto.INT64


@pytest.fixture
def hailo() -> ModuleType:
    return nets.program()


@pytest.fixture
def compile_it(hailo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compile a model on the stand-in, with samples as declared or those given."""
    monkeypatch.syspath_prepend(str(nets.FAKES))

    def compiled(
        model: str, spec: Table | None = None, samples: Any = None, **options: object
    ) -> Table:
        (tmp_path / "artifact").mkdir(exist_ok=True)
        spec = spec or nets.declared()
        path = tmp_path / "calibration.npz"
        data = nets.data(path, spec) if samples is None else tiny.samples(path, x=samples)
        made: Table = hailo.compile_model(
            model, str(tmp_path / "artifact"), "int8", data, options, inputs=[spec]
        )
        return made

    return compiled


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "small.onnx")


def test_an_absent_sdk_is_missing_with_the_remedy(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hailo.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(hailo.Missing, match=r"Compiler 3\.33 is not installed") as caught:
        hailo.probe()
    for said in ("developer zone", "EDGEDEPLOY_PYTHON_HAILO=", "hailo_ai_sw_suite", "--container"):
        assert said in caught.value.hint
    monkeypatch.undo()
    if find_spec("hailo_sdk_client") is not None:
        return
    with (
        Worker("hailo", [sys.executable, str(SERVE), str(nets.PROGRAM)]) as worker,
        pytest.raises(MissingError, match=r"Hailo Dataflow Compiler 3\.33"),
    ):
        worker.call("probe")


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 9, 1), (3, 13, 0)])
def test_another_python_is_told(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]
) -> None:
    found = SimpleNamespace(version_info=version, executable="/some/python")
    monkeypatch.setattr(hailo, "sys", found)
    text = "runs on Python 3.10 to 3.12, and this is {}.{}.{}".format(*version)
    with pytest.raises(hailo.Missing, match=text) as caught:
        hailo.probe()
    assert "EDGEDEPLOY_PYTHON_HAILO" in caught.value.hint


def test_another_python_is_told_by_that_python() -> None:
    old = Path.home() / ".pyenv" / "versions" / "3.8.18" / "bin" / "python"
    if not old.is_file():
        pytest.skip("no Python 3.8 here")
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('program', sys.argv[1])\n"
        "program = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(program)\n"
        "try:\n    program.probe()\n"
        "except program.Missing as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [str(old), "-c", code, str(nets.PROGRAM)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(nets.FAKES)},
    )
    assert "runs on Python 3.10 to 3.12, and this is 3.8.18" in done.stdout


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64")])
def test_another_machine_is_told(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(hailo.Missing, match=f"x86-64 Linux only, .* {system} on {machine}") as it:
        hailo.probe()
    assert "the device may be another machine" in it.value.hint


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("5.1.0", "that line is for Hailo-10H and Hailo-15, not for Hailo-8"),
        ("3.29.0", "3.33 is wanted, and 3.29.0 is installed"),
        ("3.34.0", "3.34.0 is installed"),
    ],
)
def test_another_version_is_told_with_the_pairs_known(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, message: str
) -> None:
    monkeypatch.syspath_prepend(str(nets.FAKES))
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    with pytest.raises(hailo.Missing, match=message) as caught:
        hailo.probe()
    assert "3.33 with HailoRT 4.23.0" in caught.value.hint
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "3.31.0")
    assert hailo.probe() == {"tools": {"hailo-dataflow-compiler": "3.31.0", "gpu": "none"}}


def test_an_sdk_that_cannot_be_imported_is_told(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "broken" / "hailo_sdk_client"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('libcuda.so.1 is not there')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    for name in [name for name in sys.modules if name.split(".")[0] == "hailo_sdk_client"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(hailo.Missing, match="cannot be imported: OSError: libcuda") as caught:
        hailo.probe()
    assert "environment of its own" in caught.value.hint


def refused(path: Path, kind: str) -> str:
    """A model that is refused before it is parsed."""
    x, y = tiny.value("x", (1, 3, 8, 8)), tiny.value("y", (1, 3, 8, 8))
    nodes, inputs, outputs = [node("Relu", ["x"], ["y"], name="relu")], [x], [y]
    if kind == "batch":
        inputs, outputs = [tiny.value("x", (4, 3, 8, 8))], [tiny.value("y", (4, 3, 8, 8))]
    elif kind == "free size":
        inputs, outputs = [tiny.value("x", (1, 3, "h", 8))], [tiny.value("y", (1, 3, "h", 8))]
    elif kind == "three axes":
        inputs, outputs = [tiny.value("x", (1, 3, 8))], [tiny.value("y", (1, 3, 8))]
    elif kind == "whole numbers":
        inputs = [tiny.value("x", (1, 3, 8, 8), INT64)]
        nodes = [node("Cast", ["x"], ["y"], name="cast", to=1)]
    elif kind == "an input passed on":
        outputs = [x, y]
    elif kind == "two of one node":
        nodes = [node("Split", ["x"], ["y", "z"], name="split", axis=2, num_outputs=2)]
        outputs = [tiny.value(name, (1, 3, 4, 8)) for name in "yz"]
    elif kind == "quantized":
        nodes = [node("QuantizeLinear", ["x", "s"], ["y"], name="q")]
        outputs = [tiny.value("y", (1, 3, 8, 8), TensorProto.UINT8)]
    weights = {"s": np.array(0.1, np.float32)} if kind == "quantized" else None
    return tiny.write(path, nodes, inputs, outputs, weights, opset=18)


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("batch", r"\[4, 3, 8, 8\]: its first axis is no batch of 1", "batch_size"),
        ("free size", r"axis 2 of input 'x' is free \(h\)", "fixed size"),
        ("three axes", r"\[1, 3, 8\]: Hailo takes \(1, features\) or", "four axes"),
        ("whole numbers", "input 'x' is int64", "on the host"),
        ("an input passed on", "output 'x' is made by no node", "Leave it out"),
        ("two of one node", "'y' and 'z' come from one node, 'split'", "End the model before"),
        ("quantized", "quantized already: node 'q' is a QuantizeLinear", "float model"),
    ],
)
def test_models_that_hailo_has_no_place_for_are_unsupported(
    compile_it: Compile, tmp_path: Path, kind: str, message: str, hint: str
) -> None:
    with pytest.raises(dfc_faults.Unsupported, match=message) as caught:
        compile_it(refused(tmp_path / "m.onnx", kind))
    assert hint in caught.value.hint


def test_a_free_batch_becomes_one(compile_it: Compile, tmp_path: Path) -> None:
    answer = compile_it(tiny.conv_net(tmp_path / "free.onnx", batch="n"))
    sidecar = json.loads(Path(answer["path"]).with_suffix(".json").read_text("utf-8"))
    assert sidecar["inputs"][0]["shape"] == [1, 3, 16, 16]
    assert sidecar["outputs"][0]["shape"] == [1, 5]


def test_what_is_no_model_is_bad_input(compile_it: Compile, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08no")
    with pytest.raises(dfc_faults.BadInput, match="is no"):
        compile_it(str(tmp_path / "m.onnx"))
    y = tiny.value("y", (1, 3, 8, 8))
    odd = [node("Relu", ["absent"], ["y"], name="relu")]
    broken = tiny.write(tmp_path / "b.onnx", odd, [tiny.value("x", (1, 3, 8, 8))], [y])
    with pytest.raises(dfc_faults.BadInput, match="no valid ONNX model"):
        compile_it(broken)


@pytest.mark.parametrize(
    ("last", "shape", "kind", "message", "hint"),
    [
        pytest.param(
            node("ArgMax", ["r"], ["y"], name="best", axis=3),
            (1, 4, 16, 1),
            INT64,
            r"node 'best' \(ArgMax\)",
            "found on the host",
            id="a whole number",
        ),
        pytest.param(
            node("Sin", ["r"], ["y"], name="wave"),
            (1, 4, 16, 16),
            1,
            r"node 'wave' \(Sin\): Sin operation is unsupported",
            "Rewrite it",
            id="an operator that there is not",
        ),
    ],
)
def test_an_operator_is_unsupported_by_node_with_the_end_nodes_recommended(
    compile_it: Compile,
    tmp_path: Path,
    *,
    last: Any,
    shape: tuple[int, ...],
    kind: int,
    message: str,
    hint: str,
) -> None:
    model = nets.ending_in(tmp_path / "m.onnx", last, shape=shape, kind=kind)
    with pytest.raises(dfc_faults.Unsupported, match=message) as caught:
        compile_it(model)
    assert hint in caught.value.hint
    assert caught.value.hint.endswith("the end nodes: relu (`end_nodes` in the workload).")


def test_other_outputs_than_those_asked_for_are_refused(
    compile_it: Compile, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(nets.FAKES))
    from hailo_sdk_client import ClientRunner

    plain = ClientRunner.get_hn_dict

    def other(self: Any) -> Table:
        """As where a recommendation was accepted: the network ends elsewhere."""
        hn: Table = plain(self)
        return {**hn, "net_params": {**hn["net_params"], "output_layers_order": ["small/conv1"]}}

    monkeypatch.setattr(ClientRunner, "get_hn_dict", other)
    with pytest.raises(dfc_faults.Unsupported) as caught:
        compile_it(model)
    assert str(caught.value) == (
        "the parser was asked for the outputs y (node classifier) and gives small/conv1 (first,"
        " relu)"
    )
    assert "end_nodes" in caught.value.hint


def test_data_that_was_normalized_otherwise_is_refused(compile_it: Compile, model: str) -> None:
    spec, raw = nets.declared(), nets.pictures(16)
    once = nets.prepared(raw, spec)
    with pytest.raises(dfc_faults.BadInput, match="double normalization") as caught:
        compile_it(model, nets.declared(mean=None, std=None), raw / np.float32(255 * 255))
    assert "Give data prepared once" in caught.value.hint
    for data in (raw, raw / np.float32(255) * 4):
        with pytest.raises(dfc_faults.BadInput, match=r"reaches from .*, expected 0 to 255") as it:
            compile_it(model, spec, data)
        assert 'normalization = "host"' in it.value.hint
    with pytest.raises(dfc_faults.BadInput, match="expected 0 to 255"):
        compile_it(model, nets.declared(mean=None, std=None), once)
    assert compile_it(model, spec, raw, normalization="host")["format"] == "hef"


def test_a_model_that_normalizes_by_itself_is_refused_beside_mean_and_std(
    compile_it: Compile, tmp_path: Path
) -> None:
    nodes = [
        node("Sub", ["x", "m"], ["centred"], name="centre"),
        node("Conv", ["centred", "w"], ["y"], name="conv"),
    ]
    weights = {
        "m": np.full((1, 3, 1, 1), 0.45, np.float32),
        "w": np.ones((2, 3, 1, 1), np.float32),
    }
    ends = [tiny.value("x", (1, 3, 16, 16))], [tiny.value("y", (1, 2, 16, 16))]
    model = tiny.write(tmp_path / "own.onnx", nodes, *ends, weights)
    with pytest.raises(dfc_faults.BadInput, match=r"one of its own, node centre \(Sub\)") as caught:
        compile_it(model)
    assert "own_normalization" in caught.value.hint
    assert compile_it(model, own_normalization="keep")["format"] == "hef"
    scaled = nets.declared(mean=None, std=None)
    assert "[255.0, 255.0, 255.0]" in compile_it(model, scaled)["script"]


@pytest.mark.parametrize("axes", [(0, 1, 3, 4, 2), (0, 3, 4, 2)])
def test_data_with_its_channels_elsewhere_is_refused(
    compile_it: Compile, model: str, axes: tuple[int, ...]
) -> None:
    values = nets.prepared(nets.pictures(16), nets.declared())
    turned = values.transpose(axes) if len(axes) == 5 else values[:, 0].transpose(0, 2, 3, 1)
    with pytest.raises(dfc_faults.BadInput, match=r"that is NHWC data, .* input is NCHW") as caught:
        compile_it(model, samples=np.ascontiguousarray(turned))
    assert "as the model takes it, NCHW" in caught.value.hint


def test_a_layout_that_the_network_has_not_is_refused(compile_it: Compile, tmp_path: Path) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")
    spec = nets.declared(layout="NHWC", mean=None, std=None)
    values = nets.pictures(16) / np.float32(255)
    with pytest.raises(
        dfc_faults.BadInput, match=r"would be given as 3x16x16 .* 16x16x3"
    ) as caught:
        compile_it(model, spec, values)
    assert "layout" in caught.value.hint


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((0, 1, 3, 16, 16), np.float32), "the model's inputs are x"),
        (np.zeros((4, 3, 16, 16), np.float32), "expected float32"),
        (np.zeros((4, 1, 3, 16, 16)), "is float64"),
        (np.full((4, 1, 3, 16, 16), np.nan, np.float32), "not finite"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    compile_it: Compile, model: str, samples: tiny.Array, message: str
) -> None:
    with pytest.raises(dfc_faults.BadInput, match=message):
        compile_it(model, samples=samples)


def test_an_order_of_colours_without_colours_is_refused(compile_it: Compile, model: str) -> None:
    with pytest.raises(dfc_faults.BadInput, match="no input is a colour picture") as caught:
        compile_it(model, nets.declared(color="gray"), input_color="bgr")
    assert "declare `color`" in caught.value.hint


def test_no_data_is_refused(
    hailo: ModuleType, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(nets.FAKES))
    with pytest.raises(hailo.BadInput, match="needs calibration data") as caught:
        hailo.compile_model(model, str(tmp_path / "artifact"), "int8", None, {})
    assert "--calibration" in caught.value.hint
    (tmp_path / "no.npz").write_bytes(b"no archive")
    with pytest.raises(hailo.BadInput, match=r"is no \.npz"):
        hailo.compile_model(model, str(tmp_path / "a"), "int8", str(tmp_path / "no.npz"), {})


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"a16_w16": ["frist"]}, "layer 'frist' is not known", "'first'"),
        ({"a8_w4": ["conv9"]}, "layer 'conv9' is not known", "'conv2'"),
        ({"model_script": "quantization_param(conv1, bits=4)"}, "No argument named bits", "Correc"),
        ({"model_script": "conv1 = nothing(at_all)"}, "does not take the model script", "Correct"),
    ],
)
def test_scripts_that_the_compiler_does_not_take_are_bad_input(
    compile_it: Compile, model: str, options: Table, message: str, hint: str
) -> None:
    with pytest.raises(dfc_faults.BadInput, match=message) as caught:
        compile_it(model, **options)
    assert hint in caught.value.hint


def test_a_node_that_became_no_layer_has_no_bits_of_its_own(model: str) -> None:
    ends = {"layers": {"net/conv1": ["first", "relu"]}}
    network = dfc_network.read(model)
    chosen = {"a16_w16": ["relu", "conv1"], "a8_w4": ["flatten"]}
    with pytest.raises(dfc_faults.BadInput, match="no layer is made of node 'flatten'") as caught:
        dfc_steps.layers_named(chosen, "int8", ends, network)
    assert caught.value.hint == "Layers: conv1."
    found = dfc_steps.layers_named({**chosen, "a8_w4": []}, "int8", ends, network)
    assert found == {"a16_w16": ["conv1"], "a8_w4": []}


@pytest.mark.parametrize(
    ("error", "stage", "kind", "message"),
    [
        (
            fault(
                "BadInputsShape",
                "Data shape (3, 640, 640) for layer n/input_layer1 doesn't match network's input"
                " shape (640, 640, 3)",
            ),
            "optimize",
            "BadInput",
            "does not fit the network's input: Data shape (3, 640, 640)",
        ),
        (
            fault(
                "BackendAllocatorException",
                "Compilation failed: No successful assignments: concat21 errors: Agent infeasible",
            ),
            "compile",
            "Unsupported",
            "no place for the model on the chip: Compilation failed",
        ),
        (fault("MisspellNodeError", "Unable to find end"), "parse", "Unsupported", "missing"),
        (
            fault("UnsupportedModelError", "1D form is not supported in layer y of type Concat"),
            "parse",
            "Unsupported",
            "the parser cannot take 1D form",
        ),
    ],
)
def test_exceptions_known_from_public_logs_are_explained(
    error: Exception, stage: str, kind: str, message: str
) -> None:
    found = dfc_faults.explained(error, stage, {})
    assert found is not None
    assert type(found).__name__ == kind
    assert message in str(found)
    assert found.hint


def test_what_nobody_knows_stays_what_it_is() -> None:
    crash = fault("BackendAllocatorException", "Compilation failed with unexpected crash")
    assert dfc_faults.explained(crash, "compile", {}) is None
    assert dfc_faults.explained(ValueError("'onnx::Sub' is not in list"), "parse", {}) is None
    assert dfc_faults.explained(MemoryError(), "optimize", {}) is None


def test_many_faults_of_a_model_are_counted() -> None:
    lines = [
        f"UnsupportedOperationError in op /n{i}: Sin operation is unsupported" for i in "abcde"
    ]
    text = "Parsing failed. The errors found in the graph are:\n " + "\n ".join(lines)
    text += "\nPlease try to parse the model again, using these end node names: /conv1, /conv2"
    error = fault("ParsingWithRecommendationException", text)
    found = dfc_faults.explained(error, "parse", {f"/n{i}": "Sin" for i in "abcde"})
    assert str(found).startswith("the parser cannot take node '/na' (Sin): Sin operation is")
    assert str(found).endswith("; and 2 more")
    assert found is not None
    assert "recommends the end nodes: /conv1, /conv2 (`end_nodes`" in found.hint


def test_the_model_given_is_not_written_to(compile_it: Compile, tmp_path: Path) -> None:
    model = nets.heads(tmp_path / "heads.onnx")
    before = Path(model).read_bytes()
    compile_it(model)
    assert Path(model).read_bytes() == before
    assert [each.name for each in onnx.load(model).graph.node][:2] == ["", ""]
