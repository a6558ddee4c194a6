"""The virtual boards as shipped: real emulators and cross compilers, our firmware, a model."""

import hashlib
import re
import shutil
import socket
import time
from pathlib import Path

import psutil
import pytest

from edgedeploy.devices.qemu import QemuDevice
from edgedeploy.devices.serial import SerialDevice
from edgedeploy.errors import InputError, WorkerError
from edgedeploy.firmware import build_firmware
from edgedeploy.target import load_target

BOARDS = {
    "esp32s3-virtual": ("qemu-system-xtensa", "xtensa-lx106-elf-gcc"),
    "rv32-virtual": ("qemu-system-riscv32", "riscv64-unknown-elf-gcc"),
}
MODEL = b"EDL2" + hashlib.shake_128(b"model").digest(300_001)


@pytest.fixture(params=BOARDS)
def device(request: pytest.FixtureRequest, shared_cache: Path) -> QemuDevice:
    for program in ("make", *BOARDS[request.param]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (`make toolchain`)")
    return QemuDevice(load_target(request.param))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a,b" / "model.espdl"
    path.parent.mkdir()
    path.write_bytes(MODEL)
    return path


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("socket://").partition(":")
    return host, int(port)


def asked(device: QemuDevice, text: bytes) -> bytes:
    """What a text command is answered."""
    with socket.create_connection(address(device.run_options()["port"]), timeout=10) as line:
        line.sendall(text)
        said = b""
        while not said.endswith(b"m-ready\r\n"):
            said += line.recv(4096)
    return said


def debugged(device: QemuDevice, command: str) -> str:
    """One command of the debugger's protocol: `$text#sum`, acknowledged and answered."""
    text = command.encode()
    with socket.create_connection(address(device.run_options()["probe"]), timeout=10) as probe:
        probe.sendall(b"$%s#%02x" % (text, sum(text) % 256))
        answer = received(probe, rb"\$([0-9a-f]+)#[0-9a-f]{2}")
        # a stop reply may come before; the board runs on once this is answered
        probe.sendall(b"+$D#44")
        received(probe, rb"\$(OK)#9a")
    return answer.decode()


def received(probe: socket.socket, pattern: bytes) -> bytes:
    said = b""
    while not (found := re.search(pattern, said)):
        said += probe.recv(4096)
    return found[1]


def test_our_firmware_comes_up_with_the_model_in_its_flash(device: QemuDevice, model: Path) -> None:
    with device:
        assert device.put(model) == str(model)
        assert b"m-name-dut-[edgedeploy]\r\n" in asked(device, b"name%")
        place = device._options.model_address
        size = len(MODEL)
        assert bytes.fromhex(debugged(device, f"m{place:x},40")) == MODEL[:64]
        assert bytes.fromhex(debugged(device, f"m{place + size - 3:x},4")) == MODEL[-3:] + b"\0"
        # and it still runs once the debugger has gone
        assert b"m-name-dut-[edgedeploy]\r\n" in asked(device, b"name%")
        pids = [each.pid for each in psutil.Process().children(recursive=True)]
        assert len(pids) >= 2
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_over_a_socket_the_firmware_tells_the_hash(
    device: QemuDevice, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for package in ("serial", "flatbuffers"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    other = tmp_path / "other"
    other.write_bytes(MODEL[:-1] + b"!")
    target = load_target("esp32s3")
    with device:
        device.put(model)
        target.device_options["serial"]["port"] = device.run_options()["port"]
        with (
            SerialDevice(target) as board,
            pytest.raises(InputError, match=r"says it is 'qemu .*', expected 'esp32s3'"),
        ):
            board.put(model)
        target.run_options.pop("board")
        with SerialDevice(target) as board:
            assert board.put(model) == str(model)
            wanted = hashlib.sha256(other.read_bytes()).hexdigest()[:12]
            found = hashlib.sha256(MODEL).hexdigest()[:12]
            with pytest.raises(InputError, match=f"has hash {found}, the artifact's is {wanted}"):
                board.put(other)


def test_a_restart_is_quick_and_clean(device: QemuDevice, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with device:
        device.put(model)
        start = time.monotonic()
        device.put(other)
        assert time.monotonic() - start < 5
        place = device._options.model_address
        assert bytes.fromhex(debugged(device, f"m{place:x},8")) == b"other\0\0\0"


def test_identity_names_emulator_and_firmware(device: QemuDevice) -> None:
    digest = hashlib.sha256(build_firmware(device.name).read_bytes()).hexdigest()
    assert device.identity().startswith("QEMU emulator version ")
    assert device.identity().endswith(f"firmware {device.name} {digest[:16]}")


def test_a_machine_the_emulator_does_not_have(model: Path, shared_cache: Path) -> None:
    for program in ("make", *BOARDS["esp32s3-virtual"]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (`make toolchain`)")
    target = load_target("esp32s3-virtual")
    target.device_options["qemu"]["arguments"] = ["-M", "lx60-nommu", "-cpu", "lx9"]
    with QemuDevice(target) as device:
        with pytest.raises(WorkerError, match="unable to find CPU model 'lx9'") as caught:
            device.put(model)
        assert "exit code 1" in caught.value.message
