"""Virtual boards: started with the model in flash, ended always, and what goes wrong is named."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from misbehaving import appears, gone
from virtual import FAKE_QEMU, firmware_folder, virtual_target

from edgedeploy.devices import open_device
from edgedeploy.devices.qemu import QemuDevice
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    UnsupportedError,
    WorkerError,
)

MODEL = b"EDL2 and more"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture(autouse=True)
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return firmware_folder(tmp_path, monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a, b,,c" / "mo,del.bin"
    path.parent.mkdir()
    path.write_bytes(MODEL)
    return path


def asked(device: QemuDevice) -> str:
    host, _, port = device.run_options()["port"].removeprefix("socket://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b"?")
        return client.makefile().readline().strip()


def emulators(pid: int | None = None) -> list[int]:
    """The emulators, and what supervises them, below a process."""
    found = psutil.Process(pid).children(recursive=True)
    return [each.pid for each in found if str(FAKE_QEMU) in each.cmdline()]


def test_the_model_lies_in_flash_and_the_line_is_open(model: Path) -> None:
    with QemuDevice(virtual_target()) as device:
        assert device.put(model) == str(model)
        assert asked(device) == f"0x61000000 {hashlib.sha256(MODEL).hexdigest()}"
        assert asked(device) == f"0x61000000 {hashlib.sha256(MODEL).hexdigest()}"
        options = device.run_options()
        assert options.keys() == {"port", "probe"}
        host, _, port = options["probe"].partition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        pids = emulators()
        assert len(pids) == 1
    assert all(gone(pid) for pid in pids)
    with pytest.raises(EdgeDeployError, match="tiny is not running"):
        device.run_options()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_another_model_is_another_start(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with QemuDevice(virtual_target()) as device:
        device.put(model)
        first = emulators()
        device.put(other)
        assert asked(device).endswith(hashlib.sha256(b"other").hexdigest())
        assert all(gone(pid) for pid in first)
        assert len(emulators()) == 1


def test_no_descriptor_is_left(model: Path) -> None:
    def held() -> int:
        return psutil.Process().num_fds()

    with QemuDevice(virtual_target()) as device:
        device.put(model)
        before = held()
        for _ in range(3):
            device.put(model)
        assert held() == before
    assert held() < before


def test_two_boards_at_a_time(model: Path) -> None:
    with QemuDevice(virtual_target()) as one, QemuDevice(virtual_target()) as two:
        one.put(model)
        two.put(model)
        assert asked(one) == asked(two)
        ends = {*one.run_options().values(), *two.run_options().values()}
        assert len({end.rpartition(":")[2] for end in ends}) == 4


def test_identity_is_of_emulator_machine_and_firmware(firmware: Path) -> None:
    first = QemuDevice(virtual_target()).identity()
    assert "QEMU emulator version 0.0 (fake) -M good firmware tiny " in first
    assert first == QemuDevice(virtual_target()).identity()
    assert first.endswith(hashlib.sha256(b"int main;\n").hexdigest()[:16])
    (firmware / "ports" / "tiny" / "main.c").write_text("int other;\n")
    assert QemuDevice(virtual_target()).identity() != first


def test_open_device_knows_it() -> None:
    device = open_device(virtual_target())
    assert isinstance(device, QemuDevice)
    assert (device.name, device.transport) == ("tiny", "qemu")
    assert emulators() == []


def test_programs_run_on_this_host(model: Path, write: Any) -> None:
    program = write("reads.py", "import os\ndef pid(): return {'parent': os.getppid()}\n")
    with QemuDevice(virtual_target()) as device, device.worker(program) as worker:
        assert worker.call("pid") == {"parent": os.getpid()}


def test_a_model_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(4096))
    with QemuDevice(virtual_target()) as device:
        device.put(path)
        path.write_bytes(bytes(5200))
        with pytest.raises(UnsupportedError, match=r"large\.bin has 5,200 bytes, 1,104 more than"):
            device.put(path)
        with pytest.raises(InputError, match="is no file: a board's flash holds one file"):
            device.put(tmp_path)


@pytest.mark.parametrize(
    ("machine", "message", "log"),
    [
        (
            "marsian",
            "ended with exit code 1: qemu-system-fake: -M marsian: not this",
            "unsupported",
        ),
        ("hangs_up", "ended with exit code 4: qemu-system-fake: lost it", "lost it"),
    ],
)
def test_an_emulator_that_does_not_start(model: Path, machine: str, message: str, log: str) -> None:
    with QemuDevice(virtual_target(machine)) as device:
        with pytest.raises(WorkerError, match=message) as caught:
            device.put(model)
        assert emulators() == []
    assert log in caught.value.log
    assert "waiting for connection" not in caught.value.log
    assert "device_options.qemu of target virtual" in caught.value.hint


def test_a_firmware_that_does_not_come_up(model: Path) -> None:
    with QemuDevice(virtual_target("silent", start_timeout_s=1.0)) as device:
        with pytest.raises(WorkerError, match=r"did not say m-ready within 1 s .*b'm-init'"):
            device.put(model)
        assert emulators() == []


def test_an_emulator_that_dies_later_is_told_in_the_log(model: Path) -> None:
    def lost() -> None:
        with QemuDevice(virtual_target("dies")) as device:
            device.put(model)
            assert all(gone(pid) for pid in emulators())
            msg = "no answer from the board"
            raise WorkerError(msg, log="the program's own")

    with pytest.raises(WorkerError, match="no answer from the board") as caught:
        lost()
    assert caught.value.log.startswith("qemu-system-fake ended with exit code 3: fake: CPU lost")
    assert caught.value.log.endswith("the program's own")


def test_no_emulator(model: Path) -> None:
    device = QemuDevice(virtual_target(program="qemu-system-nowhere"))
    for call in (device.identity, lambda: device.put(model)):
        with pytest.raises(MissingError, match="emulator qemu-system-nowhere is not") as caught:
            call()
        assert "`make toolchain`" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"flash": 1}, "unknown field `flash`", "Known: arguments"),
        ({"programm": "x"}, "unknown field `programm`", "Did you mean 'program'?"),
        ({"model_bytes": "8M"}, "Expected `int`, got `str`", "Correct the value"),
        ({"model_bytes": 0}, "expected a place in the memory", "counts of bytes"),
        ({"model_address": -1}, "expected a place in the memory", "counts of bytes"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        QemuDevice(virtual_target(**options))
    assert hint in caught.value.hint
    assert "target virtual: device_options.qemu" in caught.value.message


OWNER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from virtual import virtual_target
from edgedeploy.devices.qemu import QemuDevice

with QemuDevice(virtual_target()) as device:
    device.put(Path(sys.argv[2]))
    Path(sys.argv[3] + ".part").write_text(device.run_options()["port"])
    os.rename(sys.argv[3] + ".part", sys.argv[3])
    if sys.argv[4] == "raise":
        raise ValueError("a fault of ours")
    time.sleep(0 if sys.argv[4] == "return" else 60)
"""


@pytest.mark.parametrize("end", ["return", "raise", "SIGINT", "SIGTERM", "SIGKILL"])
def test_no_emulator_is_left(model: Path, tmp_path: Path, end: str) -> None:
    started = tmp_path / "started"
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", OWNER, folder, str(model), str(started), end]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as owner:
        port = appears(started).rpartition(":")[2]
        pids = psutil.Process(owner.pid).children(recursive=True)
        if end.startswith("SIG"):
            assert len(pids) == 2
            owner.send_signal(getattr(signal, end))
        code = owner.wait(15)
    assert (code == 0) == (end == "return")
    assert [each.pid for each in pids if not gone(each.pid)] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)
