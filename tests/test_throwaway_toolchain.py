"""A toolchain costs four files and no edit of the package: one is made and thrown away."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

# 1: a vendor's SDK, as pip would install it. Its format is an archive of the graph with weights
# rounded to int8 by output channel and inputs by the range seen in calibration; it computes with
# ONNX Runtime behind.
SDK = """
import io
import zipfile

import numpy as np

__version__ = "0.7"


def compile(onnx_path, destination, *, samples=None):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(onnx_path)
    names = [value.name for value in model.graph.input]
    if any(node.op_type == "Loop" for node in model.graph.node):
        raise ValueError("acme cannot run Loop")
    ranges = {}
    if samples is not None:
        ranges = {name: [float(samples[name].min()), float(samples[name].max())] for name in names}
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype == np.float32 and array.ndim > 1:
                axes = tuple(range(1, array.ndim))
                scale = np.maximum(np.abs(array).max(axis=axes, keepdims=True), 1e-9) / 127
                rounded = np.clip(np.round(array / scale), -127, 127) * scale
                tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
    with zipfile.ZipFile(destination, "w") as archive:
        archive.writestr("graph", model.SerializeToString())
        archive.writestr("ranges", repr(ranges))


class Device:
    def __init__(self, path):
        import ast

        import onnxruntime

        with zipfile.ZipFile(path) as archive:
            self.ranges = ast.literal_eval(archive.read("ranges").decode())
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(archive.read("graph"), options)

    def infer(self, inputs):
        fed = {}
        for name, value in inputs.items():
            if name in self.ranges:
                low, high = self.ranges[name]
                step = (high - low) / 255
                value = (np.clip(np.round((value - low) / step), 0, 255) * step + low)
            fed[name] = np.asarray(value, np.float32)
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, fed)))
"""

# 2: the board
TARGET = """
board = "a board that is thrown away"
transport = "local"
compiler = "acme"
profiler = "acme"
precisions = ["fp32", "int8"]
source = "emulated"
calibration_count = 256
"""

# 3: its compiler; int8 is this vendor's own affair, so the target names no quantizer
COMPILER = '''
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy", "onnx"]
# ///
"""The compiler of a toolchain that is thrown away."""

import os


class Unsupported(Exception):
    hint = "Unroll the loop."


def probe():
    import acme_sdk

    return {"tools": {"acme": acme_sdk.__version__}}


def compile_model(model, output, precision, calibration, options):
    import acme_sdk
    import numpy as np

    samples = dict(np.load(calibration)) if precision == "int8" else None
    path = os.path.join(output, "model.acme")
    try:
        acme_sdk.compile(model, path, samples=samples)
    except ValueError as err:
        raise Unsupported(str(err))
    count = len(next(iter(samples.values()))) if samples else 0
    return {"path": path, "format": "acme", "options": {"samples": count}, **probe()}
'''

# 4: its profiler
PROFILER = '''
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy", "onnxruntime"]
# ///
"""The runtime of a toolchain that is thrown away."""

DEVICE = None


def probe():
    import acme_sdk

    return {"tools": {"acme": acme_sdk.__version__}}


def load(artifact, options):
    global DEVICE
    import acme_sdk

    DEVICE = acme_sdk.Device(artifact)
    found = DEVICE.session
    tensors = [
        [{"name": t.name, "dtype": t.type, "shape": t.shape} for t in each]
        for each in (found.get_inputs(), found.get_outputs())
    ]
    return {"inputs": tensors[0], "outputs": tensors[1], "options": options}


def run(inputs):
    return DEVICE.infer(inputs)


def bind(inputs):
    return lambda: DEVICE.infer(inputs)


def facts():
    return probe()


def layers(inputs, count):
    return []


def memory():
    return {}
'''

FILES = {
    "sdk/acme_sdk.py": SDK,
    "targets/acme.toml": TARGET,
    "compilers/acme.py": COMPILER,
    "profilers/runtime/acme.py": PROFILER,
}
SHORT = ("--runs", "50", "--duration", "0.05")
PACKAGE = Path(__file__).parents[1] / "edgedeploy"


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder / "sdk"))
    return folder


def command_line(*arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "edgedeploy.cli", *arguments, "--json"],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_four_files_are_a_toolchain(toolchain: Path, shared_cache: Path) -> None:
    assert len([path for path in toolchain.rglob("*") if path.is_file()]) == 4
    assert not [path for path in PACKAGE.rglob("*.py") if "acme" in path.read_text("utf-8")]
    assert "acme" in [target["name"] for target in command_line("targets")]
    report = command_line("deploy", "digits", "--target", "acme", *SHORT)
    rows = {row["precision"]: row for row in report["rows"]}
    assert [(row["target"], row["status"]) for row in rows.values()] == [("acme", "ok")] * 2
    for row in rows.values():
        figures = row["figures"]
        assert figures["accuracy_top1"]["value"] > 0.97
        assert figures["latency_count"]["value"] == 50
        assert figures["snr_db"]["value"] > 15
        # nothing that was computed in the place of the board passes for measured on it
        sources = {name: each["source"] for name, each in figures.items() if each["source"]}
        on_host = {"artifact_bytes", "compile_s", "parameters", "macs"}
        assert {source for name, source in sources.items() if name not in on_host} == {"emulated"}
        assert row["measurement"]["source"] == "emulated"
        assert row["measurement"]["accuracy"]["source"] == "emulated"
        assert row["artifact"]["format"] == "acme"
        assert row["artifact"]["tools"] == {"acme": "0.7"}
        assert row["measurement"]["tools"] == {"acme": "0.7"}
    # int8 was this vendor's own, from the calibration set it was given
    assert rows["fp32"]["artifact"]["options"] == {"samples": 0}
    assert rows["int8"]["artifact"]["options"] == {"samples": 256}
    assert rows["int8"]["artifact"]["calibration_fingerprint"]
    assert rows["int8"]["artifact"]["quantized_path"] is None
    assert rows["fp32"]["figures"]["snr_db"]["value"] > 100
    assert 15 < rows["int8"]["figures"]["snr_db"]["value"] < 60
    programs = command_line("doctor")["programs"]
    assert [(p["kind"], p["found"]) for p in programs if p["name"] == "acme"] == [
        ("compiler", True),
        ("runtime", True),
    ]
    # a changed compiler is another artifact
    compiler = toolchain / "compilers" / "acme.py"
    compiler.write_text(compiler.read_text() + "\n# changed\n")
    again = command_line("deploy", "digits", "--target", "acme", "-p", "int8", *SHORT)
    cached = again["rows"][0]["cached"]
    assert (cached["export"], cached["calibrate"], cached["compile"]) == (True, True, False)


def test_an_absent_sdk_is_a_missing_row(
    toolchain: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    compiler = toolchain / "compilers" / "acme.py"
    compiler.write_text(compiler.read_text() + "\n# not the one that compiled before\n")
    report = command_line("deploy", "digits", "-t", "acme,host", "-p", "fp32", *SHORT, code=3)
    missing, done = report["rows"]
    assert (missing["target"], missing["status"]) == ("acme", "missing")
    assert missing["failure"]["message"] == "No module named 'acme_sdk'"
    assert missing["failure"]["stage"] == "compile"
    assert "EDGEDEPLOY_PYTHON_ACME" in missing["failure"]["hint"]
    assert (done["target"], done["status"]) == ("host", "ok")
    assert done["figures"]["accuracy_top1"]["source"] == "measured"


def test_another_version_of_the_sdk_is_another_artifact(
    toolchain: Path, shared_cache: Path
) -> None:
    def compiled() -> Any:
        (artifact,) = command_line("compile", "digits", "-t", "acme", "-p", "fp32")
        return artifact["tools"]

    assert compiled() == {"acme": "0.7"}
    sdk = toolchain / "sdk" / "acme_sdk.py"
    sdk.write_text(sdk.read_text().replace('"0.7"', '"0.8"'))
    assert compiled() == {"acme": "0.8"}
