"""ONNX to HEF through the stand-in of Hailo's compiler: numbers, sidecar, states, its steps."""

import json
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import hailo_networks as nets
import numpy as np
import pytest
import tiny_onnx as tiny
from hailo_networks import dfc_faults, dfc_states, fault
from onnx import helper

from edgedeploy.interpreter import read_header
from edgedeploy.worker import SERVE, Worker

Table = dict[str, Any]
Compile = Callable[..., Table]
node = helper.make_node
TOOLS = {
    "hailo-dataflow-compiler": "3.33.0+standin",
    "gpu": "none",
    "HAILO_STANDIN_GPU": "1",
}


@pytest.fixture(autouse=True)
def sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in can be imported, and sees a GPU."""
    monkeypatch.syspath_prepend(str(nets.FAKES))
    monkeypatch.setenv("HAILO_STANDIN_GPU", "1")


@pytest.fixture
def hailo() -> ModuleType:
    return nets.program()


@pytest.fixture
def compile_it(hailo: ModuleType, tmp_path: Path) -> Compile:
    """Compile a model for inputs as declared, with states that stay."""

    def compiled(
        model: str, *specs: Table, precision: str = "int8", calibration: str = "", **options: object
    ) -> Table:
        specs = specs or (nets.declared(),)
        (tmp_path / "artifact").mkdir(exist_ok=True)
        made: Table = hailo.compile_model(
            model,
            str(tmp_path / "artifact"),
            precision,
            calibration or nets.data(tmp_path / "calibration.npz", specs[0]),
            options,
            inputs=list(specs),
            states=str(tmp_path / "states"),
        )
        return made

    return compiled


def sidecar_of(answer: Table) -> Table:
    found: Table = json.loads(Path(answer["path"]).with_name("model.json").read_text("utf-8"))
    return found


def agreement(answer: Table, model: str, spec: Table, name: str = "y", *, seed: int = 9) -> float:
    """Signal to noise of the HEF against the float model; calibration samples are of seed 0."""
    samples = nets.prepared(nets.pictures(8, spec["shape"], seed), spec)
    found = nets.deployed(Path(answer["path"]), {spec["name"]: samples})[name]
    return tiny.snr_db(tiny.outputs_of(model, samples, name), found)


def test_it_keeps_the_contract_of_compilers(hailo: ModuleType) -> None:
    given = ["model", "output", "precision", "calibration", "options", "inputs"]
    wanted = {
        "probe": [],
        "compile_model": [*given, "states"],
        "prepare_model": given,
        "rungs": ["kept", "inputs", "output", "options"],
    }
    assert {name: list(signature(getattr(hailo, name)).parameters) for name in wanted} == wanted
    header = read_header(nets.PROGRAM)
    assert (header.requires_python, header.dependencies) == (">=3.8", ("numpy>=1.23",))
    assert hailo.probe() == {"tools": TOOLS}


def test_a_picture_network_is_compiled_and_computes_what_the_model_does(
    compile_it: Compile, tmp_path: Path
) -> None:
    model, spec = tiny.conv_net(tmp_path / "small.onnx"), nets.declared()
    given = Path(model).read_bytes()
    answer = compile_it(model, optimization_level=2)
    assert (answer["format"], answer["virtual"], answer["tools"]) == ("hef", True, TOOLS)
    assert (answer["warnings"], answer["downgrades"]) == ([], [])
    assert {path.name for path in (tmp_path / "artifact").iterdir()} == {"model.hef", "model.json"}
    assert sidecar_of(answer) == {
        "format": 1,
        "compiler": "3.33.0+standin",
        "runtime": "4.23.0",
        "hw_arch": "hailo8",
        "network": "small",
        "batch_size": 1,
        "inputs": [
            {
                "name": "x",
                "layer": "small/input_layer1",
                "dtype": "float32",
                "shape": [1, 3, 16, 16],
                "layout": "NCHW",
                "wire_shape": [16, 16, 3],
                "wire_dtype": "uint8",
                "scale": [58.395, 57.12, 57.375],
                "offset": [123.675, 116.28, 103.53],
                "reverse_channels": False,
            }
        ],
        "outputs": [
            {
                "name": "y",
                "layer": "small/fc1",
                "dtype": "float32",
                "shape": [1, 5],
                "layout": None,
                "wire_shape": [5],
            }
        ],
    }
    assert agreement(answer, model, spec) > 30
    assert Path(model).read_bytes() == given


def test_what_people_read_lies_beside_the_artifact(compile_it: Compile, tmp_path: Path) -> None:
    answer = compile_it(tiny.conv_net(tmp_path / "small.onnx"), model_script="# mine\n")
    kept = Path(answer["kept"])
    assert kept == tmp_path / "kept"
    assert {path.name for path in kept.iterdir()} == {
        *("model.alls", "model.json", "log.txt"),
        *("native.har", "quantized.har", "compiled.har"),
    }
    assert (kept / "model.alls").read_text("utf-8") == answer["script"]
    assert answer["script"].endswith("(option model_script)\n# mine\n")
    assert (kept / "model.json").read_bytes() == (tmp_path / "artifact/model.json").read_bytes()
    log = (kept / "log.txt").read_text("utf-8")
    assert log.index("== parsed (made)") < log.index("== quantized") < log.index("== compiled")
    assert "[info] Starting Model Optimization" in log
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"artifact", "kept", "states", "small.onnx", "calibration.npz"}


def test_effective_options_are_answered(compile_it: Compile, tmp_path: Path) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")
    answer = compile_it(model, calibset_size=12, batch_size=4)
    options = answer["options"]
    assert (options["optimization_level_asked"], options["optimization_level"]) == (2, 1)
    assert options["calibset_size"] == 12
    assert sidecar_of(answer)["batch_size"] == 4
    assert [line for line in answer["script"].splitlines() if "calib" in line] == [
        "model_optimization_config(calibration, batch_size=8, calibset_size=12)"
    ]
    assert {step["name"] for step in answer["steps"]} >= {"Statistics Collector"}
    assert answer["downgrades"] == [
        "optimization level 2 asked for, 1 done: there's less data than the recommended amount"
        " (1024)"
    ]
    assert answer["warnings"] == []
    more = compile_it(model, calibset_size=99)
    assert more["warnings"] == ["calibset_size is 99, and 16 samples are given"]
    assert more["options"]["calibset_size"] == 16


def test_heads_keep_their_order_names_and_layouts(compile_it: Compile, tmp_path: Path) -> None:
    model = nets.heads(tmp_path / "heads.onnx")
    answer = compile_it(model)
    outputs = sidecar_of(answer)["outputs"]
    assert [(each["name"], each["shape"], each["wire_shape"]) for each in outputs] == [
        ("boxes", [1, 5, 8, 8], [8, 8, 5]),
        ("scores", [1, 2, 16, 16], [16, 16, 2]),
    ]
    assert {each["layout"] for each in outputs} == {"NCHW"}
    for name in ("boxes", "scores"):
        assert agreement(answer, model, nets.declared(), name) > 25


@pytest.mark.parametrize(("color", "wanted"), [("rgb", "bgr"), ("bgr", "rgb")])
def test_another_order_of_colours_is_exchanged_on_the_chip(
    compile_it: Compile, tmp_path: Path, color: str, wanted: str
) -> None:
    model, spec = tiny.conv_net(tmp_path / "m.onnx"), nets.declared(color=color)
    answer = compile_it(model, spec, input_color=wanted, network="seen")
    assert "input_conversion1 = input_conversion(seen/input_layer1, bgr_to_rgb)" in answer["script"]
    assert sidecar_of(answer)["inputs"][0]["reverse_channels"] is True
    assert agreement(answer, model, spec) > 30
    same = compile_it(model, spec, input_color=color, network="seen")
    assert sidecar_of(same)["inputs"][0]["reverse_channels"] is False
    assert "input_conversion" not in same["script"]


@pytest.mark.parametrize(
    ("changes", "options", "wire", "scale"),
    [
        ({"value_range": [0.0, 255.0], "mean": None, "std": None}, {}, "uint8", None),
        ({"value_range": [0.0, 1.0], "mean": None, "std": None}, {}, "uint8", [255.0] * 3),
        ({}, {"normalization": "host"}, "float32", None),
    ],
)
def test_units_on_the_wire(
    compile_it: Compile, tmp_path: Path, *, changes: Table, options: Table, wire: str, scale: Any
) -> None:
    model, spec = tiny.conv_net(tmp_path / "m.onnx"), nets.declared(**changes)
    answer = compile_it(model, spec, **options)
    entry = sidecar_of(answer)["inputs"][0]
    assert (entry["wire_dtype"], entry["scale"]) == (wire, scale)
    assert ("normalization" in answer["script"]) == (scale is not None)
    assert agreement(answer, model, spec) > 30


def test_raw_values_that_are_no_whole_numbers_go_as_float32(
    compile_it: Compile, tmp_path: Path
) -> None:
    spec = nets.declared(mean=None, std=None)
    steps = np.random.default_rng(1).integers(0, 17, (16, 1, 3, 16, 16)) / np.float32(16)
    data = tiny.samples(tmp_path / "steps.npz", x=steps.astype(np.float32))
    answer = compile_it(tiny.conv_net(tmp_path / "m.onnx"), spec, calibration=data)
    assert sidecar_of(answer)["inputs"][0]["wire_dtype"] == "float32"
    assert agreement(answer, str(tmp_path / "m.onnx"), spec) > 30


def test_a_network_of_features_is_compiled(compile_it: Compile, tmp_path: Path) -> None:
    weights = {"w": np.random.default_rng(2).standard_normal((6, 4)).astype(np.float32)}
    model = tiny.write(
        tmp_path / "features.onnx",
        [node("Gemm", ["f", "w"], ["y"], name="last")],
        [tiny.value("f", (1, 6))],
        [tiny.value("y", (1, 4))],
        weights,
    )
    values = np.random.default_rng(3).standard_normal((16, 1, 6)).astype(np.float32)
    spec = nets.declared((1, 6), name="f", layout=None, mean=None, std=None)
    answer = compile_it(model, spec, calibration=tiny.samples(tmp_path / "f.npz", f=values))
    entry = sidecar_of(answer)["inputs"][0]
    assert (entry["wire_shape"], entry["wire_dtype"], entry["scale"]) == ([6], "float32", None)
    found = nets.deployed(Path(answer["path"]), {"f": values})["y"]
    assert tiny.snr_db(tiny.outputs_of(model, values), found) > 25


@pytest.mark.parametrize(("left", "right"), [("left", "right"), ("in/1", "in_1")])
def test_two_inputs_are_normalized_apart(
    compile_it: Compile, tmp_path: Path, left: str, right: str
) -> None:
    draw = np.random.default_rng(4)
    weights = {name: draw.standard_normal((4, 3, 3, 3)).astype(np.float32) / 5 for name in "vw"}
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", [left, "v"], ["a"], name="conv_left", **pads),
        node("Conv", [right, "w"], ["b"], name="conv_right", **pads),
        node("Add", ["a", "b"], ["y"], name="sum"),
    ]
    shape = (1, 3, 8, 8)
    inputs = [tiny.value(left, shape), tiny.value(right, shape)]
    model = tiny.write(
        tmp_path / "two.onnx", nodes, inputs, [tiny.value("y", (1, 4, 8, 8))], weights
    )
    specs = (nets.declared(shape, name=left), nets.declared(shape, name=right, std=[0.5]))
    samples = {
        spec["name"]: nets.prepared(nets.pictures(16, shape, seed=place) // (1 + 3 * place), spec)
        for place, spec in enumerate(specs)
    }
    data = tiny.samples(tmp_path / "two.npz", **samples)
    answer = compile_it(model, *specs, calibration=data)
    assert "two/input_layer1)" in answer["script"]
    assert "two/input_layer2)" in answer["script"]
    found = nets.deployed(Path(answer["path"]), samples)["y"]
    session = tiny.onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    exact = [session.run(None, {n: v[i] for n, v in samples.items()})[0] for i in range(16)]
    assert tiny.snr_db(np.stack(exact), found) > 25


def test_layers_may_be_called_by_their_onnx_nodes(compile_it: Compile, tmp_path: Path) -> None:
    model = tiny.conv_net(tmp_path / "net.onnx")
    answer = compile_it(
        model, precision="mixed", a16_w16=["first", "net/fc1", "dw*"], a8_w4=["pointwise"]
    )
    lines = [line for line in answer["script"].splitlines() if "quantization_param" in line]
    assert lines == [
        "quantization_param({conv1, fc1, dw*}, precision_mode=a16_w16)",
        "quantization_param({conv2}, precision_mode=a8_w4)",
    ]
    named_int8 = compile_it(model, a16_w16=["first"])
    assert "not all of it is int8: a16_w16 conv1" in named_int8["warnings"]
    wide = compile_it(model, precision="int16")
    assert "quantization_param({*}, precision_mode=a16_w16)" in wide["script"]
    assert agreement(wide, model, nets.declared(), seed=0) > 60


def test_each_state_is_gone_on_from_and_made_again_where_what_decides_it_changed(
    compile_it: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")

    def made(**options: object) -> str:
        return " ".join(compile_it(model, **options)["states"].values())

    assert made() == "made made made"
    first = (tmp_path / "artifact" / "model.hef").read_bytes()
    assert made() == "kept kept kept"
    assert (tmp_path / "artifact" / "model.hef").read_bytes() == first
    assert made(performance="max") == "kept kept made"
    assert made(compression_level=1) == "kept made made"
    assert made(network="other") == "made made made"
    assert made(hw_arch="hailo8l") == "made made made"
    nets.data(tmp_path / "calibration.npz", count=8)
    other = compile_it(model, calibration=nets.data(tmp_path / "other.npz", count=8))
    assert " ".join(other["states"].values()) == "kept made made"
    monkeypatch.setenv("HAILO_STANDIN_GPU", "0")
    assert made() == "kept made made"
    tiny.conv_net(tmp_path / "m.onnx", opset=16)
    assert made() == "made made made"


@pytest.mark.parametrize(
    ("stage", "suffix", "again"),
    [
        ("parsed", ".har", "made kept kept"),
        ("quantized", ".har", "kept made kept"),
        ("compiled", ".hef", "kept kept made"),
        ("compiled", ".json", "kept kept made"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_state_is_made_again(
    compile_it: Compile, tmp_path: Path, *, stage: str, suffix: str, again: str, damage: str
) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")
    compile_it(model)
    hef = (tmp_path / "artifact" / "model.hef").read_bytes()
    (path,) = (tmp_path / "states").glob(f"{stage}-*{suffix}")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    answer = compile_it(model)
    assert " ".join(answer["states"].values()) == again
    assert len((tmp_path / "artifact" / "model.hef").read_bytes()) == len(hef)
    assert not list((tmp_path / "states").glob(".writing-*"))


def test_a_failed_step_is_gone_on_from_the_last_good_one(
    compile_it: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hailo_sdk_client import ClientRunner

    error = fault("BackendAllocatorException", "No successful assignments: conv1")

    def fails(self: Any) -> bytes:
        raise error

    model = tiny.conv_net(tmp_path / "m.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(ClientRunner, "compile", fails)
        with pytest.raises(dfc_faults.Unsupported, match="no place for the model on the chip"):
            compile_it(model)
    assert not (tmp_path / "kept").exists()
    assert " ".join(compile_it(model)["states"].values()) == "kept kept made"
    assert agreement(compile_it(model), model, nets.declared()) > 30


def test_a_state_that_the_sdk_cannot_load_is_made_again(
    compile_it: Compile, tmp_path: Path
) -> None:
    model = tiny.conv_net(tmp_path / "m.onnx")
    compile_it(model)
    (har,) = (tmp_path / "states").glob("parsed-*.har")
    record = har.with_suffix(".json")
    har.write_bytes(b"no archive")
    table = json.loads(record.read_text("utf-8"))
    table["files"][".har"] = dfc_states.file_sha256(har)
    record.write_text(json.dumps(table), encoding="utf-8")
    answer = compile_it(model, seed=1)
    assert answer["states"] == {"parsed": "made", "quantized": "made", "compiled": "made"}
    assert agreement(answer, model, nets.declared()) > 30


def test_without_a_folder_for_states_all_is_made_and_nothing_stays(
    hailo: ModuleType, tmp_path: Path
) -> None:
    model, data = tiny.conv_net(tmp_path / "m.onnx"), nets.data(tmp_path / "c.npz")
    (tmp_path / "artifact").mkdir()
    for _ in range(2):
        answer = hailo.compile_model(model, str(tmp_path / "artifact"), "int8", data, {})
        assert set(answer["states"].values()) == {"made"}
    assert {path.name for path in tmp_path.iterdir()} == {"artifact", "kept", "m.onnx", "c.npz"}
    entry = sidecar_of(answer)["inputs"][0]
    assert (entry["scale"], entry["wire_dtype"]) == (None, "float32")


def test_the_steps_of_the_sdk_agree_with_the_model(
    hailo: ModuleType, compile_it: Compile, tmp_path: Path
) -> None:
    model, spec = nets.heads(tmp_path / "heads.onnx"), nets.declared()
    answer = compile_it(model, spec, input_color="bgr")
    (tmp_path / "rungs").mkdir()
    samples = tiny.samples(tmp_path / "s.npz", x=nets.prepared(nets.pictures(5, seed=7), spec))
    found = hailo.rungs(answer["kept"], samples, str(tmp_path / "rungs"), {})
    assert [rung["name"] for rung in found["rungs"]] == ["native", "optimized"]
    assert list(found["meanings"]) == ["native", "optimized", "emulated", "deployed"]
    given = np.load(samples)["x"]
    for rung in found["rungs"]:
        with np.load(rung["path"]) as arrays:
            assert arrays["boxes"].shape == (5, 1, 5, 8, 8)
            for name in ("boxes", "scores"):
                exact = tiny.outputs_of(model, given, name)
                np.testing.assert_allclose(arrays[name], exact, rtol=1e-3, atol=1e-4)
    with pytest.raises(hailo.BadInput, match="cannot be read") as caught:
        hailo.rungs(str(tmp_path / "no"), samples, str(tmp_path / "rungs"), {})
    assert "Compile the model again" in caught.value.hint


def test_it_is_served_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(nets.FAKES))
    monkeypatch.setenv("HAILO_STANDIN_GPU", "0")
    model, data = tiny.conv_net(tmp_path / "m.onnx"), nets.data(tmp_path / "c.npz")
    (tmp_path / "artifact").mkdir()
    with Worker("hailo", [sys.executable, str(SERVE), str(nets.PROGRAM)]) as worker:
        # what changes its results is among the tools, which caches go by
        assert worker.call("probe")["tools"] == {**TOOLS, "HAILO_STANDIN_GPU": "0"}
        answer = worker.call(
            "compile_model",
            model=model,
            output=str(tmp_path / "artifact"),
            precision="int8",
            calibration=data,
            options={"network": "digits"},
            inputs=[nets.declared()],
            states=str(tmp_path / "states"),
        )
        log = worker.log()
    assert answer["options"]["optimization_level"] == 0
    assert answer["downgrades"] == [
        "optimization level 2 asked for, 0 done: there's less data than the recommended amount"
        " (1024), and there's no available GPU"
    ]
    assert any("zero level of optimization" in line for line in answer["warnings"])
    assert "[info] Building HEF" in log
    assert "[warning] Reducing" in Path(answer["kept"], "log.txt").read_text("utf-8")
    assert sidecar_of(answer)["inputs"][0]["layer"] == "digits/input_layer1"
