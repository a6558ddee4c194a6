"""The chip's numbers by the stand-in of the Dataflow Compiler: layout, and what is refused."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hailo_artifacts
import numpy as np
import onnx
import pytest
from hailo_artifacts import MEAN, STD, expected, manifest, pictures, plain_model
from hailort_faults import BadInput, Missing, Unsupported

board, hailo = hailo_artifacts.board, hailo_artifacts.hailo


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `output` and `kept` as the compiler leaves them, of a model of two outputs."""
    folder = tmp_path_factory.mktemp("compiled")
    output, kept = folder / "output", folder / "kept"
    output.mkdir()
    kept.mkdir()
    onnx.save(plain_model(), str(folder / "net.onnx"))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.syspath_prepend(str(hailo_artifacts.FAKES))
        sdk = __import__("hailo_sdk_client")
        runner = sdk.ClientRunner(hw_arch="hailo8")
        runner.translate_onnx_model(str(folder / "net.onnx"), "net")
        runner.load_model_script(f"normalization1 = normalization({MEAN}, {STD})\n")
        runner.optimize(pictures(64)[0].astype(np.float32))
        runner.save_har(str(kept / "quantized.har"))
        (output / "model.hef").write_bytes(runner.compile())
    for place in (output, kept):
        (place / "model.json").write_text(json.dumps(manifest()), encoding="utf-8")
    return folder


@pytest.fixture
def emulator(board: Path) -> ModuleType:
    return hailo_artifacts.program("hailo_emulator")


def snr_db(found: Any, wanted: Any) -> float:
    noise = np.sum((found - wanted) ** 2, dtype=np.float64)
    return float(10 * np.log10(np.sum(wanted**2, dtype=np.float64) / max(noise, 1e-30)))


def test_quantized_numbers_come_by_the_models_names_and_layout(
    emulator: ModuleType, compiled: Path
) -> None:
    answer = emulator.load(str(compiled / "output" / "model.hef"), {})
    assert answer["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    assert [each["shape"] for each in answer["outputs"]] == [[1, 4, 8, 8], [1, 5]]
    assert answer["options"] == {"kept": "", "batch": 8}
    _, x = pictures(20, seed=9)
    found, wanted = emulator.run_many({"x": x}), expected(x)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == np.float32
        assert 20 < snr_db(found[name], value) < 80  # quantized, and not another layout
    alone = emulator.run({"x": x[7]})
    assert all(np.array_equal(alone[name], found[name][7]) for name in alone)


def test_shards_and_batches_change_nothing(
    emulator: ModuleType, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, x = pictures(11)
    emulator.load(str(compiled / "output"), {"batch": 3})
    whole = emulator.run_many({"x": x})
    monkeypatch.setattr(emulator, "SHARD_SAMPLES", 4)
    parts = emulator.run_many({"x": x})
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_the_chip_gives_the_emulators_numbers(
    emulator: ModuleType, hailo: ModuleType, compiled: Path
) -> None:
    _, x = pictures(12, seed=4)
    emulator.load(str(compiled / "output"), {})
    hailo.load(str(compiled / "output"), {})
    emulated, run = emulator.run_many({"x": x}), hailo.run_many({"x": x})
    assert all(snr_db(run[name], emulated[name]) > 30 for name in run)


def test_nothing_is_timed_and_all_is_marked(emulator: ModuleType, compiled: Path) -> None:
    emulator.load(str(compiled / "output"), {"batch": 2})
    timed = emulator.timed({}, 1, 1)
    assert [timed[key] for key in ("latency_s", "cycles", "instructions")] == [None] * 3
    assert timed["notes"][0].startswith("numbers emulated on this host")
    facts = emulator.facts()
    assert facts["emulated"] is True
    assert facts["virtual"] is True
    assert facts["batch"] == 2
    assert facts["tools"] == {"hailo-dataflow-compiler": "3.33.0+standin"}
    with pytest.raises(Unsupported, match="its time is not the chip's"):
        emulator.bind({})
    assert emulator.layers({}, 1) == []
    assert emulator.memory() == {}


def test_what_was_kept_is_the_artifacts(
    emulator: ModuleType, compiled: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "elsewhere"
    output = shutil.copytree(compiled / "output", tmp_path / "a" / "output")
    with pytest.raises(BadInput, match=r"there is no .*kept.quantized\.har") as caught:
        emulator.load(str(output), {})
    assert "option `kept` names the folder" in caught.value.hint
    shutil.copytree(compiled / "kept", kept)
    assert emulator.load(str(output), {"kept": str(kept)})["options"]["kept"] == str(kept)
    (kept / "model.json").write_text(json.dumps(manifest("other")))
    with pytest.raises(BadInput, match=r"is not what was kept of .*their model\.json differ"):
        emulator.load(str(output), {"kept": str(kept)})


def test_outputs_that_the_network_does_not_have(
    emulator: ModuleType, compiled: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(compiled, tmp_path / "a"))
    said = manifest()
    said["outputs"][1]["layer"] = "net/fc9"
    for place in ("output", "kept"):
        (folder / place / "model.json").write_text(json.dumps(said))
    with pytest.raises(BadInput, match=r"has outputs \['net/conv1', 'net/fc1'\], model\.json says"):
        emulator.load(str(folder / "output"), {})


def test_another_compiler_is_refused_naming_both(
    emulator: ModuleType, compiled: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(compiled / "output", tmp_path / "output"))
    (output / "model.json").write_text(json.dumps(manifest(compiler="3.31.0")))
    told = r"is of the Dataflow Compiler 3\.31\.0, the one here is 3\.33\.0\+standin"
    with pytest.raises(BadInput, match=told):
        emulator.load(str(output), {})


def test_without_the_compiler_it_is_missing(
    emulator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hailo_sdk_client", None)
    with pytest.raises(Missing, match="hailo_sdk_client cannot be imported") as caught:
        emulator.probe()
    assert "EDGEDEPLOY_PYTHON_HAILO" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bach": 4}, "option 'bach' is not known"),
        ({"batch": 0}, "option batch is 0, expected a value like 8"),
        ({"kept": 3}, "option kept is 3, expected a value like ''"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    emulator: ModuleType, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput) as caught:
        emulator.load("nowhere", options)
    assert told in str(caught.value)


def test_before_load_and_without_samples(emulator: ModuleType, compiled: Path) -> None:
    with pytest.raises(BadInput, match="no artifact is loaded"):
        emulator.run_many({})
    emulator.load(str(compiled / "output"), {})
    with pytest.raises(BadInput, match=r"inputs have \[0\] samples"):
        emulator.run_many({"x": np.zeros((0, 1, 3, 8, 8), np.float32)})
