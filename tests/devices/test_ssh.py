"""A target on another host: what runs there answers, raises and prints as it would here."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sshd as servers
from misbehaving import PROGRAM as MISBEHAVING
from misbehaving import gone
from sshd import FarHost

from edgedeploy.devices import open_device
from edgedeploy.devices.ssh import SshDevice
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.worker import Worker

sshd, far_host = servers.sshd, servers.far_host

PROGRAM = """
import os, sys

def where():
    folder = os.path.splitext(__file__)[0]
    return {"pid": os.getpid(), "cwd": os.getcwd(), "file": __file__, "own": os.listdir(folder)}
"""
SENSOR = """
value = 0.0

def probe():
    return {"tools": {}}

def open(options):
    if not options.get("there", True):
        raise Missing("no sensor")
    channel = {"name": "rail", "quantity": "power", "unit": "W", "scope": "module", "total": True}
    return {"channels": [{**channel, "counter_range": None, "period_s": 0.002}], "notes": []}

def read():
    global value
    value += 1.0
    return [value]

def close():
    pass

class Missing(Exception):
    hint = "plug it in"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.py"
    path.write_text(MISBEHAVING, encoding="utf-8")
    return path


@pytest.fixture
def device(far_host: FarHost) -> Iterator[SshDevice]:
    with SshDevice(far_host.target()) as found:
        yield found


@pytest.fixture
def worker(device: SshDevice, program: Path) -> Iterator[Worker]:
    with device.worker(program) as found:
        yield found


def test_a_program_runs_there_with_its_own_modules(
    far_host: FarHost, device: SshDevice, tmp_path: Path
) -> None:
    program = tmp_path / "plain.py"
    program.write_text(PROGRAM)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "parts.py").write_text("def doubled(x): return 2 * x\n")
    with device.worker(program) as worker:
        found = worker.call("where")
        assert worker.meta["python"] == sys.version.split()[0]
    far = far_host.folder
    assert found["own"] == ["parts.py"]
    assert found["file"].startswith(f"{far}/trees/")
    assert found["cwd"].startswith(f"{far}/sessions/")
    assert gone(found["pid"])
    # the session that keeps the device is the only one left, and nothing once it is over
    assert len(list((far / "sessions").iterdir())) == 1
    device.__exit__(None, None, None)
    assert list((far / "sessions").iterdir()) == []


def test_it_is_the_device_of_its_target(far_host: FarHost) -> None:
    device = open_device(far_host.target())
    assert isinstance(device, SshDevice)
    assert (device.name, device.transport) == ("my-board at far", "ssh")
    device.check()
    assert not far_host.folder.exists()
    machine = os.uname()
    assert device.identity().startswith(f"my-board {machine.machine} {machine.nodename}")
    assert device.run_options() == {}
    with device:
        assert device.identity() == SshDevice(far_host.target()).identity()


def test_what_a_program_raises_there_is_typed(worker: Worker) -> None:
    cases: list[tuple[str, type[EdgeDeployError], str, str]] = [
        ("missing", MissingError, "no vendor SDK", "Install it on far"),
        ("hinted", MissingError, "no board", "plug it in"),
        ("unsupported", UnsupportedError, "operator Foo is not known", "another target"),
        ("bad_input", InputError, "the option is wrong", "Correct what it names"),
        ("full", StorageError, "vendor on far: OSError: [Errno 28]", "permissions on far"),
        ("other", WorkerError, "vendor on far: KeyError: 'weights'", "traceback"),
    ]
    for function, kind, message, hint in cases:
        with pytest.raises(EdgeDeployError) as caught:
            worker.call(function)
        assert type(caught.value) is kind
        assert message in caught.value.message
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("abort", "vendor on far was killed by SIGABRT during abort"),
        ("dies_with_a_fork_left", "vendor on far ended with exit code 5 during dies_with"),
    ],
)
def test_a_program_that_ends_there(worker: Worker, function: str, message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        worker.call(function, timeout_s=20)


def test_a_killed_program_is_named(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"SIGKILL \(the system does that when memory runs out\)"):
        worker.call("killed", number=9)
    with pytest.raises(WorkerError, match="during probe"):
        worker.call("probe")


def test_what_is_printed_there_is_kept(worker: Worker) -> None:
    assert worker.call("prints") == {"printed": True}
    assert worker.call("reads", timeout_s=20) == {"read": None, "child": ""}
    log = worker.log()
    for said in ("to stdout, no end", "bytes", "half a", "straight to 1", "from a child"):
        assert said in log


def test_large_answers_and_requests(worker: Worker) -> None:
    assert len(worker.call("large", size=5_000_000)["text"]) == 5_000_000
    with pytest.raises(WorkerError, match="unexpected keyword"):
        worker.call("probe", text="x" * 5_000_000)


def test_half_a_line_is_no_answer(worker: Worker) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call("garbage", text='{"answer": {}', timeout_s=0.3)
    assert "no answer to garbage within 0.3 s" in caught.value.message


def test_a_hang_ends_at_its_limit_with_all_it_started(worker: Worker, tmp_path: Path) -> None:
    named = tmp_path / "pids"
    with pytest.raises(WorkerError, match="no answer to hangs within 2 s"):
        worker.call("hangs", path=str(named), timeout_s=2.0)
    for pid in map(int, named.read_text().split()):
        assert gone(pid, 5.0)


def test_closing_says_good_bye_to_the_program(
    far_host: FarHost, device: SshDevice, program: Path
) -> None:
    with device.worker(program) as worker:
        found = worker.call("pid")["pid"]
        child = worker.call("children_then_answer", path="")["child"]
    assert gone(found, 0.1)
    assert gone(child, 0.1)
    assert list(far_host.folder.glob("trees/*/program/vendor.py.closed"))


def test_an_instrument_is_polled_there(device: SshDevice, tmp_path: Path) -> None:
    sensor = tmp_path / "sensor.py"
    sensor.write_text(SENSOR)
    with device.worker(sensor) as worker:
        with pytest.raises(MissingError, match="no sensor"):
            worker.call("sample.start", options={"there": False}, period_s=0.002)
        opened = worker.call("sample.start", options={}, period_s=0.002)
        assert opened["channels"][0]["name"] == "rail"
        assert worker.call("sample.stop", timeout_s=30)["polls"] >= 1


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedeploy.devices.ssh_keep.LOCK_WAIT_S", 0.0)


@pytest.mark.usefixtures("no_patience")
def test_the_device_is_one_runs_alone(far_host: FarHost) -> None:
    target = far_host.target()
    with SshDevice(target):
        with pytest.raises(MissingError) as caught, SshDevice(target):
            pass
        assert "my-board at far: it is in use by " in caught.value.message
        assert " (pid " in caught.value.message
        assert " UTC, from " in caught.value.message
        # another device of that host, and one who only looks
        with SshDevice(far_host.target(lock=f"{far_host.token}-other")):
            SshDevice(target).check()
    with SshDevice(target) as again:
        assert again.notes == ()


@pytest.mark.usefixtures("no_patience")
def test_a_board_behind_that_host(far_host: FarHost, tmp_path: Path) -> None:
    line = tmp_path / "line"
    line.write_text("")
    plain = far_host.target(port=str(line))
    target = plain.__class__(
        **{
            **{name: getattr(plain, name) for name in plain.__struct_fields__},
            "device_options": {**plain.device_options, "serial": {"baud": 9600}},
        }
    )
    with SshDevice(target) as device:
        assert device.run_options() == {"port": str(line), "baud": 9600}
        with (
            pytest.raises(MissingError, match=f"in use by pid {device._entered().host.pid} of"),
            SshDevice(far_host.target(port=str(line), lock=f"{far_host.token}-2")),
        ):
            pass
    with (
        pytest.raises(MissingError, match="there is no serial port /dev/none"),
        SshDevice(far_host.target(port="/dev/none")),
    ):
        pass
