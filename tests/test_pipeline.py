"""Rows of a run: one that fails is a row with its reason, and the others are done."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgedeploy.errors import (
    EdgeDeployError,
    ExportError,
    FailureKind,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
)
from edgedeploy.export import Exported, export
from edgedeploy.pipeline import Pipeline, exit_code
from edgedeploy.records import Failure, Plan, Row
from edgedeploy.report.collect import report_of
from edgedeploy.row import Hooks
from edgedeploy.store import Job, Run, create_run, open_run
from edgedeploy.target import load_targets
from edgedeploy.workload import Workload, load_workload

PLAN = Plan(
    idle_s=0.0,
    warm_up_min_s=0.0,
    warm_up_max_s=0.05,
    latency_count=10,
    throughput_s=0.02,
    concurrency=(1,),
    cool_down_s=0.0,
    layer_runs=0,
)
# A toolchain that computes nothing: quick, and each way to fail can be told to it.
COMPILER = """
import os, shutil, sys, time

class Missing(Exception): pass
class Unsupported(Exception):
    hint = "Take another layer."
class BadInput(Exception): pass

def probe():
    return {"tools": {"nothing": "1"}}

def compile_model(model, output, precision, calibration, options):
    how = options.get("how", "works")
    if how == "unsupported": raise Unsupported("layer Foo is not known")
    if how == "missing": raise Missing("no licence")
    if how == "input": raise BadInput("option how is wrong")
    if how == "raises": raise ValueError("broken")
    if how == "crashes": os._exit(7)
    if how == "hangs": time.sleep(60)
    if how == "lies": return {"path": "/nowhere", "format": "copy"}
    path = os.path.join(output, "model.copy")
    shutil.copy(model, path)
    return {"path": path, "format": "copy", "tools": {"nothing": "1"}}
"""
RUNTIME = """
def probe():
    return {"tools": {"nothing": "1"}}

def load(artifact, options):
    if options.get("how") == "refused": raise RuntimeError("bad magic number")
    return {"inputs": [{"name": "x"}], "outputs": [], "options": options}

def run(inputs):
    import numpy as np
    return {"y": np.zeros((1, 10), np.float32)}

def bind(inputs):
    return lambda: None

def facts():
    return probe()

def layers(inputs, count):
    return []

def memory():
    return {}
"""
TARGET = """
board = "nothing"
transport = "local"
compiler = "nothing"
profiler = "nothing"
precisions = {precisions}
opset = {opset}
[compile_options]
how = "{how}"
[run_options]
how = "{run}"
"""
Add = Callable[..., None]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> Add:
    """Add a target of that toolchain; `how` is what becomes of it."""
    for folder, text in (("compilers", COMPILER), ("profilers/runtime", RUNTIME)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "nothing.py").write_text(text)
    (tmp_path / "targets").mkdir()
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(tmp_path))

    def target(name: str, how: str = "works", **changes: object) -> None:
        fields = {"precisions": '["fp32"]', "opset": 18, "run": "", **changes}
        text = textwrap.dedent(TARGET).format(how=how, **fields)
        (tmp_path / "targets" / f"{name}.toml").write_text(text)

    return target


def workload(**changes: object) -> Workload:
    return msgspec.structs.replace(load_workload("digits"), evaluation=None, **changes)


def done(targets: str, hooks: Hooks | None = None, **changes: Any) -> tuple[Run, list[Row]]:
    fields: dict[str, Any] = {"plan": PLAN, "with_ladder": False, "workload": workload(), **changes}
    run = create_run(Job(targets=tuple(load_targets(targets)), **fields), "1.0")
    Pipeline(run, hooks).execute()
    return run, run.rows()


def failure(row: Row) -> Failure:
    assert row.failure is not None
    return row.failure


@pytest.mark.parametrize(
    ("how", "status", "code", "message", "hint"),
    [
        ("unsupported", "unsupported", 4, "layer Foo is not known", "Take another layer."),
        ("missing", "missing", 3, "no licence", "EDGEDEPLOY_PYTHON_NOTHING"),
        ("input", "failed", 2, "option how is wrong", "Correct what it names"),
        ("raises", "failed", 1, "nothing: ValueError: broken", "traceback"),
        ("crashes", "failed", 1, "nothing ended with exit code 7 during compile_model", "log"),
        ("hangs", "failed", 1, "no answer to compile_model within 2 s", "--timeout"),
        ("lies", "failed", 1, "nothing answered artifact /nowhere, which does not", "log"),
    ],
)
def test_a_compiler_that_fails_is_a_row(
    add: Add, how: str, *, status: str, code: int, message: str, hint: str
) -> None:
    add("bad", how)
    add("good")
    plan = msgspec.structs.replace(PLAN, timeout_s=2.0 if how == "hangs" else 60.0)
    run, (bad, good) = done("bad,good", plan=plan)
    assert (bad.target, bad.status) == ("bad", status)
    assert message in failure(bad).message
    assert hint in failure(bad).hint
    assert failure(bad).stage == "compile"
    assert bad.measurement is None
    # the model was counted before the target failed, nothing was read off the target
    assert bad.figures["parameters"] == good.figures["parameters"]
    assert bad.figures["parameters"].value is not None
    assert bad.figures["latency_p50_s"].value is None
    assert bad.figures["latency_p50_s"].reason
    assert (good.target, good.status) == ("good", "ok")
    assert run.state.complete
    assert exit_code((bad, good)) == code
    assert bad.stage_s["compile"] > 0


def test_a_runtime_that_refuses_the_artifact_is_a_row(add: Add) -> None:
    add("bad", run="refused")
    (row,) = done("bad")[1]
    assert failure(row).stage == "deploy"
    assert failure(row).message == "nothing: RuntimeError: bad magic number"
    assert "Traceback" in failure(row).log
    # what was compiled is told all the same
    assert row.artifact is not None
    assert row.figures["artifact_bytes"].value == row.artifact.size_bytes


def test_programs_that_are_not_there_are_rows(add: Add, tmp_path: Path) -> None:
    add("bad")
    path = tmp_path / "targets" / "bad.toml"
    path.write_text(path.read_text().replace('compiler = "nothing"', 'compiler = "nothin"'))
    add("good")
    bad, good = done("bad,good")[1]
    assert failure(bad).message == "compiler 'nothin' is not known: no compilers/nothin.py"
    assert failure(bad).hint == "Did you mean 'nothing'?"
    assert (good.status, exit_code((bad, good))) == ("ok", 2)


def test_precisions_a_target_lacks_and_int8_without_data(add: Add) -> None:
    add("some", precisions='["fp32", "int8"]')
    rows = done("some", precisions=("fp16", "int8", "int8"), workload=workload(calibration=None))[1]
    assert [row.precision for row in rows] == ["fp16", "int8"]
    assert rows[0].status == "unsupported"
    assert failure(rows[0]).hint == "It has: fp32, int8."
    assert failure(rows[1]).kind == "input"
    assert "has no calibration data, which int8 needs" in failure(rows[1]).message
    assert failure(rows[1]).stage == "calibrate"
    assert exit_code(tuple(rows)) == 2


def test_a_row_that_breaks_us_is_a_row(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add("first")
    add("second")
    errors: list[Exception] = [ZeroDivisionError("by zero"), OSError(28, "No space left", "/x")]

    def broken(*_: object, **__: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr("edgedeploy.row.deployed", broken)
    first, second = done("first,second")[1]
    assert failure(first).message == "ZeroDivisionError: by zero"
    assert "Traceback" in failure(first).log
    assert failure(second).message == "cannot write /x: No space left"
    assert "Free space" in failure(second).hint
    assert exit_code((first, second)) == 1


def test_an_export_that_fails_for_one_target_is_its_row(add: Add) -> None:
    add("old", opset=7)
    add("new")

    def exported(opset: int) -> Exported:
        if opset == 7:
            message = "opset 7 is too old"
            raise ExportError(message, hint="Set opset = 18.")
        return export(workload(), opset)[0]

    old, new = done("old,new", Hooks(exported=exported))[1]
    assert (failure(old).stage, failure(old).message) == ("export", "opset 7 is too old")
    assert old.figures["parameters"].value is None
    assert new.status == "ok"
    with pytest.raises(ExportError, match="opset 7"):
        done("old", Hooks(exported=exported))


def test_a_finished_row_is_not_done_again(add: Add) -> None:
    add("bad", "raises")
    add("good")
    run, before = done("bad,good")
    files = {path: path.stat().st_mtime_ns for path in run.folder.glob("rows/*/*")}
    Pipeline(run).execute()
    assert {path: path.stat().st_mtime_ns for path in run.folder.glob("rows/*/*")} == files
    assert run.rows() == before


def test_an_interrupted_row_is_not_kept(add: Add) -> None:
    add("first")
    add("second")

    def stop(row: str, stage: str, share: float) -> None:
        if (row, stage) == ("second fp32", "latency"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        done("first,second", Hooks(progress=stop))
    run = open_run("last")
    assert not run.state.complete
    assert [row.target for row in run.rows()] == ["first"]
    assert [row.status for row in report_of(run).rows] == ["ok", "missing"]
    assert not list(run.folder.rglob("*.part"))
    Pipeline(run).execute()
    assert [row.status for row in report_of(run).rows] == ["ok", "ok"]


def test_no_room_for_a_row_ends_the_run(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add("first")
    add("second")
    refused: list[Path] = []

    def full(self: Path, target: Path) -> None:
        refused.append(target)
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", full)
        with pytest.raises(StorageError) as caught:
            done("first,second")
    assert caught.value.message.endswith("No space left on device")
    run = open_run("last")
    assert (run.rows(), run.state.complete) == ([], False)
    Pipeline(run).execute()
    assert [row.status for row in run.rows()] == ["ok", "ok"]


ROWS: dict[FailureKind, int] = {"failed": 1, "input": 2, "missing": 3, "unsupported": 4}


def failed(kind: FailureKind) -> Row:
    return Row(
        run="r",
        workload="w",
        target="t",
        precision="fp32",
        status="failed",
        failure=Failure(target="t", stage="compile", kind=kind, message="m"),
    )


def test_the_exit_code_is_the_worst() -> None:
    good = Row(run="r", workload="w", target="t", precision="fp32", status="ok")
    assert exit_code(()) == exit_code((good,)) == 0
    order: list[FailureKind] = ["unsupported", "missing", "input", "failed"]
    rows: tuple[Row, ...] = (good,)
    for kind in order:
        rows = (*rows, failed(kind))
        assert exit_code(rows) == exit_code(rows[::-1]) == ROWS[kind]


@pytest.mark.parametrize("error", [InputError, MissingError, UnsupportedError, StorageError])
def test_exit_codes_of_rows_are_those_of_errors(error: type[EdgeDeployError]) -> None:
    assert ROWS[error.kind] == error.exit_code


def test_two_targets_of_one_name(add: Add, tmp_path: Path) -> None:
    add("one")
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "one.toml"
    copy.write_text((tmp_path / "targets" / "one.toml").read_text())
    assert [target.name for target in load_targets(f"one,{copy},one")] == ["one"]
    copy.write_text(copy.read_text().replace('"nothing"', '"other"'))
    with pytest.raises(InputError, match="two different targets are named 'one'") as caught:
        load_targets(f"one,{copy}")
    assert "another name" in caught.value.hint
