"""A supervised program ends with whoever started it, in each way one can end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from misbehaving import appears, gone

from edgedeploy.devices.supervised import Supervised, run_supervised
from edgedeploy.errors import EdgeDeployError

# Ends for nothing but SIGKILL, and has a child of its own.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write("%d %d %d" % (os.getppid(), os.getpid(), child.pid))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""
OWNER = """
import sys, time
from edgedeploy.devices.supervised import Supervised

running = Supervised([sys.executable, "-c", *sys.argv[1:]])
try:
    time.sleep(60)
finally:
    running.stop()
"""


def stubborn(path: Path) -> Supervised:
    return Supervised([sys.executable, "-c", STUBBORN, str(path)])


def test_a_program_runs_to_its_end() -> None:
    code, output, took_s = run_supervised(["sh", "-c", "echo out; echo err >&2; exit 7"], 10, 100)
    assert (code, output) == (7, "out\nerr")
    assert 0 < took_s < 10
    assert run_supervised(["sh", "-c", "kill -11 $$"], 10, 100)[0] == 128 + signal.SIGSEGV
    assert run_supervised(["sh", "-c", "seq 1000"], 10, 9)[1] == "999\n1000"


def test_a_program_reads_nothing_and_hears_interrupts() -> None:
    assert run_supervised(["sh", "-c", "cat; echo end"], 10, 100)[:2] == (0, "end")
    code = "import signal, sys; sys.exit(signal.getsignal(2) is not signal.default_int_handler)"
    assert run_supervised([sys.executable, "-c", code], 10, 100)[:2] == (0, "")


def test_a_program_that_is_not_there() -> None:
    code, output, _ = run_supervised(["/no/such/program"], 10, 1000)
    assert code == 127
    assert output == "/no/such/program: No such file or directory"


def test_no_process_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(EdgeDeployError, match="true cannot be started: No such file"):
        Supervised(["true"])


def test_only_the_descriptors_passed_are_handed_down() -> None:
    read_end, write_end = os.pipe()
    other = os.dup(read_end)
    os.set_inheritable(other, True)
    code = f"import os; os.write({write_end}, b'there'); os.fstat({other})"
    running = Supervised([sys.executable, "-c", code], passed=(write_end,))
    os.close(write_end)
    assert running.wait(10) == 1
    assert "Bad file descriptor" in running.output()
    assert os.read(read_end, 100) == b"there"
    assert os.read(read_end, 100) == b""  # the one between has closed its own
    running.stop()
    os.close(read_end)
    os.close(other)


def test_stop_ends_a_stubborn_one_with_its_children(tmp_path: Path) -> None:
    running = stubborn(tmp_path / "pids")
    pids = [int(word) for word in appears(tmp_path / "pids").split()]
    assert pids[0] == running.pid
    assert running.exit_code() is None
    start = time.monotonic()
    running.stop()
    running.stop()
    assert time.monotonic() - start < 2
    assert all(gone(pid) for pid in pids)
    assert running.output() == ""


def test_a_time_limit_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('so far', flush=True)\n" + STUBBORN]
    with pytest.raises(TimeoutError, match="did not end within 1 s") as caught:
        run_supervised([*command, str(tmp_path / "pids")], 1, 100)
    assert caught.value.args[1] == "so far"
    assert all(gone(int(word)) for word in appears(tmp_path / "pids").split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_none_is_left_when_the_owner_ends(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", OWNER, STUBBORN, str(tmp_path / "pids")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as owner:
        pids = [int(word) for word in appears(tmp_path / "pids").split()]
        owner.send_signal(number)
        assert owner.wait(10) != 0
    assert [pid for pid in pids if not gone(pid)] == []


def test_a_fork_that_holds_the_pipe_holds_nothing_up(tmp_path: Path) -> None:
    forks = OWNER.replace("try:", "import os\nif os.fork() == 0: time.sleep(40); os._exit(0)\ntry:")
    command = [sys.executable, "-c", forks, STUBBORN, str(tmp_path / "pids")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as owner:
        pids = [int(word) for word in appears(tmp_path / "pids").split()]
        (fork,) = {each.pid for each in psutil.Process(owner.pid).children()} - {pids[0]}
        owner.kill()
        owner.wait(10)
        assert [pid for pid in pids if not gone(pid)] == []
        os.kill(fork, signal.SIGKILL)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(
            signal.SIGKILL,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux ends the orphan"),
        ),
    ],
)
def test_none_is_left_when_the_supervisor_ends(tmp_path: Path, number: signal.Signals) -> None:
    running = stubborn(tmp_path / "pids")
    supervisor, program, child = (int(word) for word in appears(tmp_path / "pids").split())
    os.kill(supervisor, number)
    assert gone(supervisor)
    assert gone(program)
    running.stop()
    psutil.Process(child).kill() if psutil.pid_exists(child) else None
    assert gone(child)


def test_an_interrupt_from_the_terminal_is_left_to_the_owner(tmp_path: Path) -> None:
    running = stubborn(tmp_path / "pids")
    appears(tmp_path / "pids")
    os.kill(running.pid, signal.SIGINT)
    time.sleep(0.2)
    assert running.exit_code() is None
    assert os.getsid(running.pid) == running.pid
    running.stop()
    assert gone(running.pid)
