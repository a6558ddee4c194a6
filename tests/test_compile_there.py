"""A compiler that runs beside the device, over a real ssh server on loopback."""

from pathlib import Path

import pytest
import sshd as servers
from sshd import FarHost

from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Plan, Report
from edgedeploy.report.collect import report_of
from edgedeploy.store import Job, create_run
from edgedeploy.target import load_targets
from edgedeploy.workload import load_workload

sshd, far_host = servers.sshd, servers.far_host
PLAN = Plan(
    latency_count=20, layer_runs=0, idle_s=0.0, cool_down_s=0.0, warm_up_max_s=0.1, throughput_s=0.0
)
COMPILER = '''
"""A compiler that is only where its device is."""
import os
import shutil


def probe():
    if "SSH_CONNECTION" not in os.environ:
        raise ImportError("compiled here, not there", name="vendor")
    return {"tools": {"vendor": "7"}}


def compile_model(model, output, precision, calibration, options, *, states=None):
    path = os.path.join(output, "model.onnx")
    shutil.copy(model, path)
    with open(os.path.join(output, "about.json"), "w") as file:
        file.write("{}")
    kept = os.path.join(os.path.dirname(output), "kept")
    os.mkdir(kept)
    with open(os.path.join(kept, "log.txt"), "w") as file:
        file.write(precision)
    with open(os.path.join(states, "timing"), "a") as file:
        file.write("x")
    return {"path": path, "format": "onnx", "kept": kept, "notes": ["12 layers"], **probe()}


def prepare_model(model, output, precision, calibration, options):
    shutil.copy(model, os.path.join(output, "model.onnx"))
    return {"files": ["model.onnx"]}
'''
TARGET = """
board = "a board behind a network"
transport = "ssh"
compiler = "vendor"
compile_on = "device"
profiler = "ort"
precisions = ["fp32"]
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    for name, text in (("compilers/vendor.py", COMPILER), ("targets/board.toml", TARGET)):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text.lstrip(), encoding="utf-8")
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder))
    return folder


def deploy() -> Report:
    job = Job(workload=load_workload("digits"), targets=tuple(load_targets("board")), plan=PLAN)
    run = create_run(job, "0")
    Pipeline(run).execute()
    return report_of(run)


def test_it_compiles_where_the_device_is(
    board: Path,
    far_host: FarHost,
    tmp_path: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = far_host.options()
    lines = "\n".join(f'{key} = "{value}"' for key, value in options.items())
    target = board / "targets" / "board.toml"
    target.write_text(f"{TARGET}\n[device_options.ssh]\n{lines}\n", encoding="utf-8")
    (row,) = deploy().rows
    assert row.failure is None, row.failure
    assert row.artifact is not None
    assert row.artifact.tools == {"vendor": "7"}
    assert "12 layers" in row.artifact.notes
    folder = Path(row.artifact.folder or "")
    assert sorted(path.name for path in folder.iterdir()) == ["about.json", "model.onnx"]
    assert (Path(row.artifact.kept or "") / "log.txt").read_text(encoding="utf-8") == "fp32"
    assert row.figures["accuracy_top1"].value == pytest.approx(0.9972, abs=0.003)
    (again,) = deploy().rows
    assert again.cached["compile"]
    assert again.artifact is not None
    assert again.artifact.sha256 == row.artifact.sha256


def test_without_a_host_all_else_is_done(board: Path, shared_cache: Path) -> None:
    report = deploy()
    (row,) = report.rows
    assert exit_code(report.rows) == 3
    assert row.failure is not None
    assert row.failure.message.startswith("a host for this target")
    assert "EDGEDEPLOY_HOST_BOARD" in row.failure.hint
    assert row.preparation is not None
    assert (Path(row.preparation.folder) / "model.onnx").is_file()
