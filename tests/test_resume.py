"""A deploy ended at any moment: no process is left, nothing half done is shown, and it goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from edgedeploy.records import Plan
from edgedeploy.report.collect import report_of
from edgedeploy.store import Job, Run, create_run, open_run
from edgedeploy.target import load_target
from edgedeploy.workload import load_workload

SHORT = ("--runs", "20", "--duration", "0.05")
COMMAND = (sys.executable, "-m", "edgedeploy.cli")


PLAN = Plan(
    idle_s=0.0,
    warm_up_min_s=0.0,
    warm_up_max_s=0.1,
    latency_count=20,
    throughput_s=0.02,
    concurrency=(1,),
    cool_down_s=0.0,
    layer_runs=0,
)


@pytest.fixture
def asked(shared_cache: Path) -> Run:
    """A run of `digits` in which nothing is done yet, with a plan shorter than options can say."""
    job = Job(
        workload=load_workload("digits"),
        targets=(load_target("host"),),
        plan=PLAN,
        with_ladder=False,
    )
    return create_run(job, "1.0")


def deploy(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "deploy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended_at(process: "subprocess.Popen[str]", line: str, number: signal.Signals) -> str:
    """Signal the process once it says `line`; what it said on stderr in all."""
    assert process.stderr is not None
    said = []
    for text in process.stderr:
        said.append(text)
        if text.strip() == line:
            process.send_signal(number)
            break
    else:
        pytest.fail(f"it never said {line!r}: {''.join(said)}")
    return "".join(said) + process.stderr.read()


def left_behind(runs: str) -> list[int]:
    """Processes that a deploy into this folder started and that do not end by themselves soon."""
    deadline = time.monotonic() + 10
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found += [process.pid] if environment.get("EDGEDEPLOY_RUNS") == runs else []
            except psutil.Error:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def finished(name: str = "last") -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in open_run(name).folder.glob("rows/*/row.json")}


def goes_on(before: dict[Path, int]) -> None:
    """`--resume last` completes the run and does nothing a second time."""
    run = open_run("last")
    assert not run.state.complete
    rows = report_of(run).rows
    assert [(row.target, row.precision) for row in rows] == [("host", "fp32"), ("host", "int8")]
    for row in rows:
        if run.has_row(row.target, row.precision):
            assert row.status == "ok"
            assert row.figures["latency_count"].value == 20
        else:
            assert row.status == "missing"
            assert row.failure is not None
            assert "interrupted" in row.failure.message
            assert row.failure.hint == f"edgedeploy deploy --resume {run.id}"
            assert not any(each.value for each in row.figures.values())
    with deploy("--resume", "last", "--json") as again:
        report = json.loads(again.communicate(timeout=120)[0])
    assert again.returncode == 0
    assert [(row["precision"], row["status"]) for row in report["rows"]] == [
        ("fp32", "ok"),
        ("int8", "ok"),
    ]
    assert report["runs"] == [run.id]
    assert open_run("last").state.complete
    after = finished()
    assert {path: after[path] for path in before} == before
    assert len(after) == 2
    assert not list(run.folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("line", "number", "rows"),
    [
        ("host fp32: compile", signal.SIGKILL, 0),
        ("host fp32: latency", signal.SIGINT, 0),
        ("host int8: accuracy", signal.SIGTERM, 1),
    ],
)
def test_ended_while_measuring(
    asked: Run, own_folders: Path, line: str, number: signal.Signals, rows: int
) -> None:
    with deploy("--resume", asked.id) as process:
        said = ended_at(process, line, number)
        output = process.stdout.read() if process.stdout else ""
        code = process.wait(20)
    assert output == ""
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130
        assert "Traceback" not in said
    assert left_behind(str(own_folders / "runs")) == []
    before = finished()
    assert len(before) == rows
    goes_on(before)


def test_an_interrupt_says_how_to_go_on(asked: Run) -> None:
    with deploy("--resume", asked.id) as process:
        said = ended_at(process, "host fp32: compile", signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted: finished rows are kept" in said
    assert "edgedeploy deploy --resume last" in said


@pytest.mark.usefixtures("shared_cache")
def test_ended_as_a_user_starts_it(own_folders: Path) -> None:
    with deploy("digits", *SHORT) as process:
        ended_at(process, "host int8: throughput", signal.SIGKILL)
    assert left_behind(str(own_folders / "runs")) == []
    assert len(finished()) == 1
    goes_on(finished())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_while_exporting(
    asked: Run, own_folders: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("EDGEDEPLOY_CACHE", str(own_folders / "empty"))
        with deploy("--resume", asked.id) as process:
            ended_at(process, "digits: export", number)
            code = process.wait(20)
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert left_behind(str(own_folders / "runs")) == []
    assert open_run("last").state.planned == ()
    assert not list((own_folders / "empty").rglob("entry.json"))
    if number == signal.SIGKILL:
        goes_on({})


def test_ended_at_some_moment(asked: Run, own_folders: Path) -> None:
    with deploy("--resume", asked.id) as process:
        timer = threading.Timer(random.uniform(0.2, 2.5), process.kill)
        timer.start()
        process.communicate(timeout=60)
        timer.cancel()
    assert left_behind(str(own_folders / "runs")) == []
    if not open_run("last").state.complete:
        goes_on(finished())


def test_interrupted_twice_and_while_starting(asked: Run, own_folders: Path) -> None:
    with deploy("--resume", asked.id) as process:
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    # before there is anything to answer with, Python itself ends by the signal
    assert process.returncode in {130, -signal.SIGINT}
    assert left_behind(str(own_folders / "runs")) == []
