"""Workers: crashes, hangs, memory and dead parents are named, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from misbehaving import PROGRAM, appears, gone, served

from edgedeploy.errors import (
    InputError,
    WorkerError,
)
from edgedeploy.memory import memory_limit_bytes
from edgedeploy.worker import Worker


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


@pytest.fixture
def worker(program: Path) -> Iterator[Worker]:
    with served(program) as found:
        yield found


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("abort", {}, "vendor was killed by SIGABRT during abort"),
        ("segfault", {}, "vendor was killed by SIGSEGV during segfault"),
        ("exits", {}, "vendor ended with exit code 7 during exits"),
        ("killed", {"number": 9}, "SIGKILL (the system does that when memory runs out)"),
        ("killed", {"number": 40}, "vendor was killed by signal 40 during killed"),
    ],
)
def test_crashes_are_named(
    worker: Worker, function: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call(function, **arguments)
    assert message in caught.value.message
    assert caught.value.exit_code == 1
    assert "log" in caught.value.hint
    # one who asks a dead worker again is told so, not left waiting
    with pytest.raises(WorkerError, match="during probe"):
        worker.call("probe")


def test_a_crash_leaves_its_last_words_and_where_it_was(worker: Worker) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call("abort")
    assert "last words" in caught.value.log
    assert "in abort" in caught.value.log


def test_a_hang_ends_at_its_limit_with_all_it_started(program: Path, tmp_path: Path) -> None:
    named = tmp_path / "pids"
    start = time.monotonic()
    with served(program, timeout_s=3.0) as worker:
        with pytest.raises(WorkerError, match="no answer to hangs within 3 s") as caught:
            worker.call("hangs", path=str(named))
        for pid in map(int, named.read_text().split()):
            assert gone(pid, 2.0)
    assert "--timeout" in caught.value.hint
    assert "about to hang" in caught.value.log
    assert time.monotonic() - start < 8


def test_a_dead_worker_whose_fork_holds_the_pipe_is_noticed(program: Path) -> None:
    with (
        served(program) as worker,
        pytest.raises(WorkerError, match="ended with exit code 5 during dies_with"),
    ):
        worker.call("dies_with_a_fork_left", timeout_s=20)


def test_what_a_worker_started_ends_with_it(program: Path) -> None:
    with served(program) as worker:
        child = worker.call("children_then_answer", path="")["child"]
        assert psutil.pid_exists(child)
    assert gone(child)
    assert Path(f"{program}.closed").read_text() == "closed"


def test_memory_past_the_limit_is_named(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_WORKER_MEMORY_BYTES", "150000000")
    for function in ("eats", "eats_in_a_child"):
        with served(program) as worker, pytest.raises(WorkerError) as caught:
            worker.call(function, size=200_000_000, timeout_s=20)
        assert f"in {function}, over its limit of 0.15 GB" in caught.value.message
        assert caught.value.message.startswith("vendor took 0.")
        assert "EDGEDEPLOY_WORKER_MEMORY_BYTES" in caught.value.hint
        assert gone(worker._process.pid)


def test_the_memory_limit_of_a_user(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    for named in ("4 GB", "", "0", "-1", "1e9", "²"):
        monkeypatch.setenv("EDGEDEPLOY_WORKER_MEMORY_BYTES", named)
        with pytest.raises(InputError, match=f"'{named}', expected a number of bytes") as caught:
            served(program)
        assert "4000000000" in caught.value.hint
    monkeypatch.setenv("EDGEDEPLOY_WORKER_MEMORY_BYTES", "4000000000")
    assert memory_limit_bytes() == 4_000_000_000
    monkeypatch.delenv("EDGEDEPLOY_WORKER_MEMORY_BYTES")
    assert 0 < memory_limit_bytes() < psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ranks what to end first")
def test_the_system_ends_the_worker_first(worker: Worker) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert worker.call("score")["adj"] == max(own, 500)


def test_endless_printing_does_not_fill_the_disk(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedeploy.worker.LOG_MOST_BYTES", 16 << 20)
    used = []
    original = os.ftruncate

    def spied(descriptor: int, length: int) -> None:
        used.append(os.fstat(descriptor).st_blocks * 512)
        original(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", spied)
    with served(program) as worker, pytest.raises(WorkerError) as caught:
        worker.call("chatters", timeout_s=1.5)
    assert len(used) >= 2
    assert "chatter" in caught.value.log


PARENT = """
import sys, time
from edgedeploy.worker import SERVE, Worker

program, function, path = sys.argv[1:]
worker = Worker("vendor", [sys.executable, str(SERVE), program])
pid = worker.call("pid")["pid"]
if function == "idle":
    with open(path, "w") as file:
        file.write(str(pid))
    time.sleep(60)
try:
    with worker:
        worker.call(function, path=path)
except KeyboardInterrupt:
    sys.exit(130)
"""


def parent(program: Path, function: str, path: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PARENT, str(program), function, str(path)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("function", ["idle", "hangs", "spins"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_orphan_is_left(
    program: Path, tmp_path: Path, function: str, number: signal.Signals
) -> None:
    named = tmp_path / "pids"
    with parent(program, function, named) as process:
        pids = [int(word) for word in appears(named).split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        process.send_signal(number)
        code = process.wait(15)
        alive = [pid for pid in pids if not gone(pid)]
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
    assert alive == []
    if function != "idle":
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)


def test_closing_says_good_bye_to_the_program(program: Path) -> None:
    worker = served(program)
    assert worker.call("probe")
    pid = worker._process.pid
    worker.close()
    worker.close()
    assert gone(pid)
    assert Path(f"{program}.closed").exists()
    assert worker.log() == ""


def test_a_program_that_does_not_leave_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "stays.py"
    program.write_text("import time\ndef probe(): return {}\ndef close(): time.sleep(60)\n")
    start = time.monotonic()
    with served(program) as worker:
        worker.call("probe")
        pid = worker._process.pid
    assert gone(pid)
    assert 1.5 < time.monotonic() - start < 8
