"""ONNX to one file for ESP-DL: its layout, its test vectors, its precisions, its bytes."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import espdl_nets as nets
import numpy as np
import pytest
import tiny_onnx as tiny
from packaging.requirements import Requirement

from edgedeploy.interpreter import read_header

pytestmark = pytest.mark.skipif(
    find_spec("esp_ppq") is None, reason="the optional toolchain esp-ppq is not installed"
)
PROGRAM = tiny.ROOT / "compilers" / "espdl.py"
AGAIN = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("program", sys.argv[1])
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
program.compile_model(*sys.argv[2:5], sys.argv[5], json.loads(sys.argv[6]))
"""


def layout(compiled: nets.Compiled) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(
        nets.read(compiled.path).metadata["edgedeploy"]
    )
    return found


def test_it_keeps_the_contract_of_compilers() -> None:
    module = tiny.program("compilers", "espdl")
    wanted = {
        "probe": [],
        "compile_model": ["model", "output", "precision", "calibration", "options"],
        "layer_errors": ["model", "quantized", "inputs", "options"],
    }
    assert {name: list(signature(getattr(module, name)).parameters) for name in wanted} == wanted
    header = read_header(PROGRAM)
    lines = PROGRAM.with_suffix(".lock").read_text(encoding="utf-8").splitlines()
    pins = {Requirement(line).name: Requirement(line) for line in lines}
    for text in header.dependencies:
        needed = Requirement(text)
        version = next(iter(pins[needed.name].specifier)).version
        assert needed.specifier.contains(version)
    tools = module.probe()["tools"]
    assert tools["esp-ppq"] == "1.3.12"
    assert set(tools) > {"torch", "onnx", "onnxsim"}


def test_one_file_is_made_and_what_people_read_lies_beside_it() -> None:
    compiled = nets.compiled("plain")
    assert compiled.answer["format"] == "espdl"
    assert compiled.answer["warnings"] == []
    assert compiled.answer["tools"] == tiny.program("compilers", "espdl").probe()["tools"]
    assert [path.name for path in compiled.path.parent.iterdir()] == ["model.espdl"]
    assert compiled.kept == compiled.path.parent.parent / "kept"
    kept = {path.name for path in compiled.kept.iterdir()}
    assert kept == {"model.info", "model.json", "errors.json", "graph.json", "graph.npz"}
    assert "test outputs value" in (compiled.kept / "model.info").read_text(encoding="utf-8")
    options = compiled.answer["options"]
    assert options["chip"] == "esp32s3"
    assert options["calibration_steps"] == nets.COUNT
    assert "memory_bytes" not in options
    left = {path.name for path in compiled.path.parent.parent.iterdir()}
    assert left == {"artifact", "kept", "plain.onnx", "plain.npz"}


def test_the_model_given_is_not_written_to(tmp_path: Path) -> None:
    fresh = nets.network(tmp_path, "plain")
    for name in ("model", "calibration"):
        given = Path(getattr(nets.compiled("plain").network, name))
        written = Path(getattr(fresh, name)).read_bytes()
        assert given.read_bytes() == written or name == "calibration"
        assert given.stat().st_mtime < nets.compiled("plain").path.stat().st_mtime
    held = np.load(nets.compiled("plain").network.calibration)["x"]
    np.testing.assert_array_equal(held, fresh.samples["x"])


def test_layout_and_test_vectors_give_the_shaped_outputs_of_the_model() -> None:
    compiled = nets.compiled("ends")
    found, kept = nets.read(compiled.path), layout(compiled)
    assert kept["rounding"] == "half_up"
    perms = {end["name"]: end["perm"] for end in kept["inputs"] + kept["outputs"]}
    assert perms == {
        "x": [0, 2, 3, 1],
        "z": None,
        "y": None,
        "both": [0, 2, 3, 1],
        "rows_out": None,
        "moved": None,
        "level": None,
    }
    samples = compiled.network.samples
    inputs = {tensor.name: tensor for tensor in found.inputs}
    for name, end in zip(found.input_names, kept["inputs"], strict=True):
        value = samples[str(end["name"])][0]
        moved = value.transpose(end["perm"]) if end["perm"] else value
        steps = np.floor(np.ldexp(moved.astype(np.float64), -inputs[name].exponent) + 0.5)
        np.testing.assert_array_equal(inputs[name].values, np.clip(steps, -128, 127))
    truth = nets.float_outputs(compiled.network)
    outputs = {tensor.name: tensor for tensor in found.outputs}
    for name, end in zip(found.output_names, kept["outputs"], strict=True):
        value = np.ldexp(outputs[name].values.astype(np.float64), outputs[name].exponent)
        if end["perm"]:
            value = value.transpose(np.argsort(end["perm"]))
        exact = truth[str(end["name"])][0]
        assert list(exact.shape) == end["shape"]
        assert tiny.snr_db(exact, value.reshape(exact.shape)) > 25, end["name"]


def test_the_same_input_gives_the_same_bytes_whatever_the_seed_of_hashes(tmp_path: Path) -> None:
    compiled = nets.compiled("ends")
    wanted = hashlib.sha256(compiled.path.read_bytes()).hexdigest()
    output = tmp_path / "artifact"
    output.mkdir()
    given = [compiled.network.model, str(output), "int8", compiled.network.calibration, "{}"]
    subprocess.run(
        [sys.executable, "-c", AGAIN, str(PROGRAM), *given],
        # this process has another seed: a random one, or the one it was given
        env={**os.environ, "PYTHONHASHSEED": "1" + os.environ.get("PYTHONHASHSEED", "0")[:4]},
        check=True,
        capture_output=True,
    )
    assert hashlib.sha256((output / "model.espdl").read_bytes()).hexdigest() == wanted
    for name in ("model.info", "model.json", "graph.json", "errors.json"):
        assert (tmp_path / "kept" / name).read_bytes() == (compiled.kept / name).read_bytes()


def fidelity_db(compiled: nets.Compiled) -> float:
    """Signal to noise of the embedded output of a network with one output."""
    (tensor,) = nets.read(compiled.path).outputs
    (end,) = layout(compiled)["outputs"]
    value = np.ldexp(tensor.values.astype(np.float64), tensor.exponent)
    value = value.transpose(np.argsort(end["perm"])) if end["perm"] else value
    return tiny.snr_db(nets.float_outputs(compiled.network)[str(end["name"])][0], value)


def test_int16_is_closer_than_int8_and_the_layers_named_come_between() -> None:
    wide = nets.compiled("uneven", "int16")
    narrow = nets.compiled("uneven")
    mixed = nets.compiled("uneven", "mixed", '{"int16_layers": ["narrow"]}')
    assert fidelity_db(wide) > 50
    assert 5 < fidelity_db(narrow) < fidelity_db(mixed) < fidelity_db(wide) - 20
    assert nets.read(wide.path).outputs[0].values.dtype == np.int16
    assert nets.read(narrow.path).outputs[0].values.dtype == np.int8
    assert mixed.answer["options"]["int16_layers"] == ["narrow"]
    operators = [kind for _, kind in nets.read(mixed.path).operators]
    assert operators == ["Conv", "RequantizeLinear", "Conv"]


def test_mixed_takes_the_layers_that_harm_the_outputs_most() -> None:
    errors = json.loads((nets.compiled("plain").kept / "errors.json").read_text())["layers"]
    computing = {"first", "depthwise", "pointwise", "classifier"}
    alone = {row["layer"]: row["alone_snr_db"] for row in errors if row["layer"] in computing}
    worst = sorted(alone, key=lambda name: alone[name])
    least = (alone[worst[1]] + alone[worst[2]]) / 2
    mixed = nets.compiled("plain", "mixed", json.dumps({"mixed_min_snr_db": least}))
    chosen = mixed.answer["options"]["int16_layers"]
    assert [name for name in chosen if name in computing] == worst[:2]
    assert any(kind == "RequantizeLinear" for _, kind in nets.read(mixed.path).operators)
    assert mixed.path.stat().st_size > nets.compiled("plain").path.stat().st_size


def test_equalization_evens_out_the_channels() -> None:
    even = nets.compiled("uneven", "int8", '{"equalization": true}')
    assert even.answer["options"]["equalization"] is True
    assert fidelity_db(even) > fidelity_db(nets.compiled("uneven")) + 15


def test_search_takes_the_best_of_as_many_settings_as_allowed() -> None:
    found = nets.compiled("uneven", "int8", '{"search": true, "search_candidates": 2}')
    search = found.answer["options"]["found"]
    assert search["tried"] == 2
    # its judge saw all samples, the test vector is one of them
    assert search["snr_db"] == pytest.approx(fidelity_db(found), abs=2)
    assert search["settings"]["calib_algorithm"] == {"method": "kl"}
    assert found.path.read_bytes() == nets.compiled("uneven").path.read_bytes()


def test_a_chip_that_rounds_half_to_even_and_an_mlperf_id_are_told() -> None:
    options = '{"chip": "esp32p4", "mlperf_id": "ic01", "calibration_algorithm": "percentile"}'
    compiled = nets.compiled("plain", "int8", options)
    metadata = nets.read(compiled.path).metadata
    assert metadata["mlperf"] == "ic01"
    assert json.loads(metadata["edgedeploy"])["rounding"] == "half_even"
    assert "mlperf" not in nets.read(nets.compiled("plain").path).metadata


def test_trained_thresholds_change_the_model() -> None:
    trained = nets.compiled("plain", "int8", '{"tqt_steps": 4, "tqt_learning_rate": 0.001}')
    assert trained.path.read_bytes() != nets.compiled("plain").path.read_bytes()
    assert fidelity_db(trained) > 25


def test_layer_errors_are_those_measured_worst_first() -> None:
    module = tiny.program("compilers", "espdl")
    compiled = nets.compiled("uneven")
    options = {"kept": str(compiled.kept)}
    rows = module.layer_errors("net.onnx", str(compiled.path), "x.npz", options)["layers"]
    assert {row["layer"] for row in rows} == {"wide", "relu", "narrow"}
    found = [row["snr_db"] for row in rows]
    assert found == sorted(found)
    # one scale for channels of sizes 1 to 60 leaves few steps to the small ones
    assert rows[0]["layer"] == "narrow"
    assert rows[0]["snr_db"] < 12
    assert rows[-1]["snr_db"] > 30
    assert all(10 < row["alone_snr_db"] < 20 for row in rows)
    with pytest.raises(module.BadInput, match=r"errors\.json does not exist"):
        module.layer_errors("net.onnx", str(compiled.path), "x.npz", {})
