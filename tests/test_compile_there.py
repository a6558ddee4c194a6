"""A compiler that runs beside the device, over a real ssh server on loopback."""

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import sshd as servers
from sshd import FarHost

from edgedeploy.compile_there import CompilerThere
from edgedeploy.errors import ConnectionLostError, StorageError, WorkerError
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Plan, Report, Target
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


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CompilerThere]:
    """A compiler there that sends `packed` and answers what else is told."""

    def make(packed: bytes, **answer: Any) -> CompilerThere:
        worker = MagicMock()
        worker.call.return_value = answer
        worker.log.return_value = "its log"

        @contextlib.contextmanager
        def exchange(_: Path, wanted: Path) -> Iterator[tuple[str, str]]:
            yield "given", "wanted"
            wanted.write_bytes(packed)

        device = MagicMock(exchange=exchange)
        device.__enter__.return_value = device
        device.worker.return_value.__enter__.return_value = worker
        monkeypatch.setattr("edgedeploy.compile_there.open_device", lambda _: device)
        return CompilerThere(
            Target(name="x", board="x", transport="local", compiler="c", profiler="p"),
            Path("vendor.py"),
        )

    return make


def archive(**files: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return made.getvalue()


@pytest.mark.parametrize("key", ["path", "kept"])
@pytest.mark.parametrize("told", ["/etc/passwd", "../x", "a/../../x"])
def test_a_host_names_no_files_of_this_one(
    answers: Callable[..., CompilerThere], tmp_path: Path, key: str, told: str
) -> None:
    there = answers(archive(**{"a": "1", "../b": "2"}), **{"path": "a", "kept": "a", key: told})
    (tmp_path / "here").mkdir()
    with pytest.raises(WorkerError, match=f"vendor answered {told}, which is not what it sent"):
        there.compile_model(tmp_path / "model", tmp_path / "here")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_archive_that_is_none_or_too_large(
    answers: Callable[..., CompilerThere], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = archive(a="1" * 1000)
    for packed in (b"", b"x" * 99, whole[:34] + b"\xff" + whole[35:]):
        with pytest.raises(WorkerError, match="cannot be unpacked"):
            answers(packed, path="a").compile_model(tmp_path / "model", tmp_path)
    usage = MagicMock(free=999)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="needs 1,000 bytes, 999 are free"):
        answers(whole, path="a").compile_model(tmp_path / "model", tmp_path)


def test_a_link_lost_while_it_compiles_is_resumed(
    board: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parts(*_: Any) -> dict[str, str]:
        msg = "the connection was lost"
        raise ConnectionLostError(msg, hint="Run again.")

    monkeypatch.setattr(CompilerThere, "parts", parts)
    monkeypatch.setenv("EDGEDEPLOY_HOST_BOARD", "far")
    (row,) = deploy().rows
    assert row.failure is not None
    assert row.failure.lost


def test_without_a_host_all_else_is_done(board: Path, shared_cache: Path) -> None:
    report = deploy()
    (row,) = report.rows
    assert exit_code(report.rows) == 3
    assert row.failure is not None
    assert row.failure.message.startswith("a host for this target")
    assert "EDGEDEPLOY_HOST_BOARD" in row.failure.hint
    assert row.preparation is not None
    assert (Path(row.preparation.folder) / "model.onnx").is_file()
