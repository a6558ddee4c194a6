"""The Hailo runtime in a process of its own, as it runs beside a chip, and under Python 3.8."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import hailo_artifacts
import numpy as np
import pytest
from hailo_artifacts import FAKES, RUNTIME, artifact, chips, expected, free, pictures
from numpy.testing import assert_allclose
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from edgedeploy.errors import MissingError
from edgedeploy.interpreter import read_header
from edgedeploy.worker import SERVE, Worker

board = hailo_artifacts.board
PLAN: dict[str, Any] = {
    "idle_s": 0.0,
    "cool_down_s": 0.0,
    "warm_up_min_s": 0.0,
    "warm_up_max_s": 0.1,
    "latency_min_s": 0.05,
    "latency_max_s": 0.2,
    "latency_min_count": 20,
    "latency_count": None,
    "throughput_s": 0.1,
    "concurrency": [1, 16],
}


def old_python() -> str | None:
    """A Python 3.8 that can run the stand-in, where one is installed or named."""
    named = os.environ.get("EDGEDEPLOY_TEST_PYTHON38")
    for path in filter(None, (named, shutil.which("python3.8"))):
        asked = "import sys, numpy, onnxruntime; sys.exit(sys.version_info[:2] != (3, 8))"
        if subprocess.run([path, "-c", asked], capture_output=True, check=False).returncode == 0:
            return path
    return None


OLD = old_python()
NONE = "no Python 3.8 with numpy and onnxruntime (name one in EDGEDEPLOY_TEST_PYTHON38)"
PYTHONS = [
    pytest.param(sys.executable, id="this"),
    pytest.param(OLD, id="3.8", marks=pytest.mark.skipif(OLD is None, reason=NONE)),
]


@pytest.fixture
def served(
    request: pytest.FixtureRequest, board: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    """The program served by the Python of the parameter, which finds the stand-ins."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    monkeypatch.setenv("PATH", f"{FAKES}:/usr/bin:/bin")
    command = [request.param, str(SERVE), str(RUNTIME / "hailo.py")]
    with Worker("hailo", command, timeout_s=60) as worker:
        yield worker


@pytest.mark.parametrize("served", PYTHONS, indirect=True)
def test_it_measures_infers_and_leaves_the_chip_free(
    served: Worker, board: Path, tmp_path: Path
) -> None:
    _, x = pictures(12)
    given, wanted = tmp_path / "given.npz", tmp_path / "wanted.npz"
    np.savez(given, x=x)
    prepared = served.call("measure.prepare", artifact=artifact(tmp_path / "net"), options={})
    assert prepared["tools"] == {"hailort": "4.23.0+standin"}
    assert served.call("measure.infer", inputs=str(given), outputs=str(wanted))["count"] == 12
    with np.load(wanted) as found:
        for name, value in expected(x).items():
            assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
    phases: list[str] = []
    answer = served.call(
        "measure.profile",
        inputs=str(given),
        plan=PLAN,
        on_event=lambda event: phases.append(event.get("phase", "latencies")),
    )
    windows = {window["phase"]: window for window in answer["windows"]}
    assert windows["latency"]["count"] >= 20
    assert windows["throughput"]["concurrency"] in {1, 16}
    assert windows["throughput"]["count"] >= 10
    assert "latencies" in phases
    assert answer["facts"]["virtual"] is True
    assert answer["facts"]["tools"]["hailortcli"] == "4.23.0+standin"
    assert answer["facts_after"]["chip_clock_hz"] == 400e6
    assert answer["device_memory_bytes"] == {}
    figures = served.call("vendor_figures", seconds=1.0)["figures"]
    assert [figure["name"] for figure in figures] == [
        "latency_chip_s",
        "throughput_chip_hz",
        "throughput_streaming_hz",
    ]
    assert not free(board)
    served.close()
    assert free(board)


@pytest.mark.parametrize("served", PYTHONS, indirect=True)
def test_faults_keep_their_kind_and_remedy_across_the_boundary(
    served: Worker, board: Path, tmp_path: Path
) -> None:
    folder = artifact(tmp_path / "net")
    chips(board, busy=True)
    with pytest.raises(MissingError, match="the chip is in use by another process") as busy:
        served.call("load", artifact=folder, options={})
    assert "fuser" in busy.value.hint
    chips(board, firmware_version="4.20.0")
    with pytest.raises(MissingError, match=r"the firmware is version 4\.20\.0"):
        served.call("load", artifact=folder, options={})


@pytest.mark.parametrize("served", [sys.executable], indirect=True)
def test_a_killed_process_leaves_the_chip_free(served: Worker, board: Path, tmp_path: Path) -> None:
    served.call("load", artifact=artifact(tmp_path / "net"), options={})
    assert not free(board)
    served.close(grace_s=0.0)
    assert free(board)


@pytest.mark.parametrize("path", [RUNTIME / "hailo.py", *sorted((RUNTIME / "hailo").glob("*.py"))])
def test_what_runs_beside_the_chip_is_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    # annotations may be newer, as they are not evaluated
    first = next(node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert first.module == "__future__"
    strict = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "zip"
        and any(keyword.arg == "strict" for keyword in node.keywords)
    ]
    assert strict == []


@pytest.mark.parametrize("name", ["hailo", "hailo_emulator"])
def test_header_and_lock_name_what_an_index_has(name: str) -> None:
    header = read_header(RUNTIME / f"{name}.py")
    wanted = [Requirement(text) for text in header.dependencies]
    # the vendor's own packages are on no index
    assert [each.name for each in wanted] == ["numpy"]
    lines = (RUNTIME / f"{name}.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines]
    assert pins
    for pin in pins:
        assert [part.operator for part in pin.specifier] == ["=="]
        assert wanted[0].specifier.contains(next(iter(pin.specifier)).version)
    assert SpecifierSet(header.requires_python).contains("3.11")
    assert SpecifierSet(header.requires_python).contains("3.8") is (name == "hailo")


@pytest.mark.parametrize("name", ["hailo", "hailo_emulator"])
def test_functions_take_what_the_contract_says(name: str) -> None:
    module = hailo_artifacts.program(name)
    contract = {
        "probe": [],
        "load": ["artifact", "options"],
        "run": ["inputs"],
        "run_many": ["samples"],
        "bind": ["inputs"],
        "facts": [],
        "layers": ["inputs", "count"],
        "memory": [],
    }
    more = {
        "bind_async": ["inputs"],
        "beside": ["artifact", "options"],
        "bind_beside": ["place", "inputs"],
        "vendor_figures": ["seconds"],
        "close": [],
    }
    timed = {"timed": ["inputs", "warm_up", "count"]}
    wanted = {**contract, **(more if name == "hailo" else timed)}
    found = {each: list(signature(getattr(module, each)).parameters) for each in wanted}
    assert found == wanted
    for kind in ("Missing", "Unsupported", "BadInput"):
        assert getattr(module, kind)("what", "remedy").hint == "remedy"
