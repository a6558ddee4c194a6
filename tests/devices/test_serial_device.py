"""Boards on serial ports: found, locked, flashed only where they differ, asked for their hash."""

import hashlib
import json
import os
import pty
import re
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from virtual import program

from edgedeploy.devices import open_device
from edgedeploy.devices import serial as module
from edgedeploy.devices.serial import SerialDevice
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.records import Target

FAKE = Path(__file__).with_name("fake_esptool.py")
RUNTIME = """
import hashlib, json
from pathlib import Path

class BadInput(Exception):
    hint = "Name the right port."

def artifact_sha256(path, options):
    said = Path(options["board"], "says").read_text()
    Path(options["board"], "asked").write_text(json.dumps(options))
    if said == "nothing":
        raise RuntimeError("no answer to hello")
    if said == "another board":
        raise BadInput("the board says it is 'posix', expected 'mine'")
    return {"sha256": said, "size_bytes": 1}
"""
MODEL = b"EDL2" + bytes(range(200))
ANOTHER = "0" * 64


class Bench:
    """A board with its flash and firmware, the ports of a host, and a target."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.model = folder / "model.bin"
        self.model.write_bytes(MODEL)
        (folder / "flash.bin").write_bytes(b"\xff" * (1 << 16))
        command = f'"{sys.executable}" -I -S "{FAKE}"'
        self.flasher = program(folder / "esptool", f'#!/bin/sh\nexec {command} "$@"\n')
        program(folder / "own" / "profilers" / "runtime" / "fakeboard.py", RUNTIME)
        monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder / "own"))
        monkeypatch.setenv("FAKE_BOARD", str(folder))
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        monkeypatch.setattr(module, "LEAVE_S", 0.0)
        self.says("nothing")
        self.plug("ttyACM0")

    def plug(self, *names: str, serial: str = "7C:DF") -> None:
        for name in names:
            (self.folder / name).touch()
        found = [
            SimpleNamespace(
                device=str(self.folder / name),
                vid=0x303A,
                pid=0x1001,
                serial_number=serial,
                description="board",
            )
            for name in names
        ]
        listing = SimpleNamespace(comports=lambda: found)
        self.monkeypatch.setitem(sys.modules, "serial.tools.list_ports", listing)

    def says(self, hash_or_nothing: str) -> None:
        (self.folder / "says").write_text(hash_or_nothing)

    def device(self, **options: Any) -> SerialDevice:
        table = {
            "chip": "esp32s3",
            "usb": ["303A:1001"],
            "model_address": 0x8000,
            "model_bytes": 0x4000,
            "flasher": str(self.flasher),
            **options,
        }
        target = Target(
            name="my-board",
            board="board of mine",
            transport="serial",
            compiler="none",
            profiler="fakeboard",
            run_options={"board": str(self.folder)},
            device_options={"serial": table},
        )
        found = open_device(target)
        assert isinstance(found, SerialDevice)
        return found

    def flash(self, address: int, size: int) -> bytes:
        return (self.folder / "flash.bin").read_bytes()[address : address + size]

    def calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def firmware(self, label: bytes = b"model", chip: str = "esp32s3") -> str:
        """A built firmware, as its builder lists it; its model goes to 0xC000."""
        folder = self.folder / "own" / "firmware" / "build" / "board"
        (folder / "bootloader").mkdir(parents=True)
        (folder / "bootloader" / "bootloader.bin").write_bytes(b"\xe9boot")
        (folder / "app.bin").write_bytes(b"\xe9app" * 99)
        entries = [
            struct.pack("<HBBII16sI", 0x50AA, 0, 0, 0x2000, 0x4000, b"factory", 0),
            struct.pack("<HBBII16sI", 0x50AA, 1, 0x82, 0xC000, 0x1000, label, 0),
            struct.pack("<H14s16s", 0xEBEB, b"\xff" * 14, b"md5 of the table"),
        ]
        table = b"".join(entries).ljust(0xC00, b"\xff")
        (folder / "partition-table.bin").write_bytes(table)
        files = {
            "0x0": "bootloader/bootloader.bin",
            "0x2000": "app.bin",
            "0x1000": "partition-table.bin",
        }
        listed = {
            "write_flash_args": ["--flash_mode", "dio"],
            "flash_settings": {"flash_mode": "dio"},
            "flash_files": files,
            "bootloader": {"offset": "0x0", "file": files["0x0"], "encrypted": "false"},
            "app": {"offset": "0x2000", "file": files["0x2000"], "encrypted": "false"},
            "partition-table": {"offset": "0x1000", "file": files["0x1000"]},
            "extra_esptool_args": {"after": "hard_reset", "chip": chip},
        }
        (folder / "flasher_args.json").write_text(json.dumps(listed))
        return "build/board"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_model_is_flashed_once(bench: Bench) -> None:
    bench.says(ANOTHER)
    with bench.device() as device:
        assert device.put(bench.model) == str(bench.model)
        assert device.written == ("model",)
        assert bench.flash(0x8000, len(MODEL)) == MODEL
        assert bench.calls() == 3
        assert device.put(bench.model) == str(bench.model)
        assert device.written == ()
        assert bench.calls() == 4
        assert device.run_options() == {"port": str(bench.folder / "ttyACM0"), "baud": 115200}
        assert device.name == f"my-board at {bench.folder / 'ttyACM0'}"
        assert device.identity() == "my-board 303A:1001 7C:DF"


def test_a_board_that_says_it_has_the_model_is_not_reset(bench: Bench) -> None:
    bench.says(hashlib.sha256(MODEL).hexdigest())
    with bench.device(baud=921600) as device:
        device.put(bench.model)
    assert device.written == ()
    assert bench.calls() == 0
    asked = json.loads((bench.folder / "asked").read_text())
    port = str(bench.folder / "ttyACM0")
    assert asked == {"board": str(bench.folder), "port": port, "baud": 921600}


def test_a_board_that_says_it_has_another_is_flashed(bench: Bench) -> None:
    bench.says(ANOTHER)
    with bench.device(firmware="build/not-built") as device:
        device.put(bench.model)
    assert device.written == ("model",)
    assert bench.flash(0x8000, len(MODEL)) == MODEL


def test_the_firmware_built_here_goes_with_the_model(bench: Bench) -> None:
    # what the firmware says of the model tells nothing of the firmware itself
    bench.says(hashlib.sha256(MODEL).hexdigest())
    with bench.device(firmware=bench.firmware()) as device:
        device.put(bench.model)
        assert device.written == ("bootloader", "partition-table", "app", "model")
        assert bench.flash(0xC000, len(MODEL)) == MODEL
        assert bench.flash(0x0, 5) == b"\xe9boot"
        assert bench.flash(0x8000, 8) == b"\xff" * 8
        bench.model.write_bytes(b"EDL2 another")
        device.put(bench.model)
        assert device.written == ("model",)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"firmware": "build/other"}, "`make firmware TARGET=my-board`"),
        ({}, "device_options.serial.firmware"),
    ],
)
def test_a_board_of_somebody_else_is_left_as_it_is(
    bench: Bench, options: dict[str, Any], remedy: str
) -> None:
    port = bench.folder / "ttyACM0"
    said = f"the board at {port} does not answer as edgedeploy's firmware, and none is built here"
    with bench.device(**options) as device, pytest.raises(MissingError, match=said) as caught:
        device.put(bench.model)
    assert "no answer to hello" in caught.value.message
    assert remedy in caught.value.hint
    assert device.written == ()
    assert bench.calls() == 0
    assert bench.flash(0, 1 << 16) == b"\xff" * (1 << 16)


def test_another_board_with_our_firmware_is_left_as_it_is(bench: Bench) -> None:
    bench.says("another board")
    with bench.device() as device, pytest.raises(InputError, match="says it is 'posix'"):
        device.put(bench.model)
    assert bench.calls() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": b"models"}, "has no partition 'model', it has factory, models"),
        ({"chip": "esp32p4"}, "is for esp32p4, expected esp32s3"),
    ],
)
def test_a_firmware_of_another_kind(bench: Bench, change: dict[str, Any], message: str) -> None:
    with (
        bench.device(firmware=bench.firmware(**change)) as device,
        pytest.raises(InputError, match=message),
    ):
        device.put(bench.model)
    assert bench.calls() == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flasher_args.json", "{", "is not a list of files to flash: JSONDecodeError"),
        ("flasher_args.json", "[]", "is not a list of files to flash: TypeError"),
        ("flasher_args.json", '{"flash_files": {"x": "a"}}', "is not a list of files"),
        ("flasher_args.json", "{}", "is not a list of files to flash: KeyError"),
        ("app.bin", "", "names app.bin at 0x2000, which is not there or empty"),
        ("partition-table.bin", "nothing" * 20, "holds no partition"),
    ],
)
def test_a_firmware_that_is_damaged(bench: Bench, name: str, text: str, message: str) -> None:
    built = bench.firmware()
    (bench.folder / "own" / "firmware" / built / name).write_text(text)
    with bench.device(firmware=built) as device, pytest.raises(InputError, match=message) as caught:
        device.put(bench.model)
    assert "make firmware" in caught.value.hint


def test_a_model_that_is_too_large(bench: Bench) -> None:
    bench.model.write_bytes(bytes(0x4001))
    with bench.device() as device:
        with pytest.raises(UnsupportedError, match="16,385 bytes, 1 more than the 16,384"):
            device.put(bench.model)
        with pytest.raises(InputError, match="is no file with a model in it"):
            device.put(bench.folder)
    with (
        bench.device(firmware=bench.firmware()) as device,
        pytest.raises(UnsupportedError, match="12,289 more than the 4,096"),
    ):
        device.put(bench.model)
    assert bench.calls() == 0


def test_over_a_socket_the_hash_decides(bench: Bench) -> None:
    with bench.device(port="socket://127.0.0.1:9") as device:
        bench.says(hashlib.sha256(MODEL).hexdigest())
        assert device.put(bench.model) == str(bench.model)
        bench.says("ab" * 32)
        with pytest.raises(InputError, match="has hash abababababab, the artifact's") as caught:
            device.put(bench.model)
        assert "--port" in caught.value.hint
        bench.says("nothing")
        with pytest.raises(WorkerError, match="no answer to hello"):
            device.put(bench.model)
        assert device.identity() == "my-board socket://127.0.0.1:9"
    assert bench.calls() == 0


def test_over_a_pseudo_terminal_too(bench: Bench) -> None:
    first, second = pty.openpty()
    with bench.device(port=os.ttyname(second)) as device:
        bench.says(hashlib.sha256(MODEL).hexdigest())
        device.put(bench.model)
    os.close(first)
    os.close(second)
    assert bench.calls() == 0


def test_the_port_is_of_one_run(bench: Bench) -> None:
    with bench.device() as first:
        with pytest.raises(MissingError, match=f"in use by pid {os.getpid()}"), bench.device():
            pytest.fail("it was taken")
        assert first.identity()
    with bench.device() as second:
        assert second.identity() == first.identity()


def test_ports_named_by_option_and_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.plug("ttyACM0", "ttyACM1")
    with pytest.raises(InputError, match="2 ports may be the board of mine"), bench.device():
        pytest.fail("it chose one")
    monkeypatch.setenv("EDGEDEPLOY_PORT_MY_BOARD", str(bench.folder / "ttyACM1"))
    with bench.device() as device:
        assert device.run_options()["port"] == str(bench.folder / "ttyACM1")
    with bench.device(port=str(bench.folder / "ttyACM0")) as device:
        assert device.run_options()["port"] == str(bench.folder / "ttyACM0")


def test_no_board(bench: Bench) -> None:
    bench.plug()
    with pytest.raises(MissingError, match="no board of mine is plugged in"), bench.device():
        pytest.fail("there is none")


def test_a_port_that_comes_back_under_another_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(*_: object) -> list[str]:
        (bench.folder / "ttyACM0").unlink()
        bench.plug("ttyACM1")
        device._await_port()
        return ["model"]

    bench.says(ANOTHER)
    monkeypatch.setattr(module, "flash", renamed)
    with bench.device() as device:
        device.put(bench.model)
        assert device.run_options()["port"] == str(bench.folder / "ttyACM1")
        assert device.name.endswith("ttyACM1")
        with (
            pytest.raises(MissingError, match="in use"),
            bench.device(port=str(bench.folder / "ttyACM1")),
        ):
            pytest.fail("it was taken")


def test_a_port_that_does_not_come_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETURN_S", 0.3)
    with bench.device() as device:
        assert device.identity()
        (bench.folder / "ttyACM0").unlink()
        start = time.monotonic()
        with pytest.raises(MissingError, match=r"did not come back within 0\.3 s of a reset"):
            device._await_port()
    assert time.monotonic() - start < 5


def test_no_flasher(bench: Bench) -> None:
    bench.says(ANOTHER)
    with bench.device(flasher="no-such-flasher") as device:
        for needs in (device.check, lambda: device.put(bench.model)):
            with pytest.raises(MissingError, match="no-such-flasher, which writes") as caught:
                needs()
            assert "esptool" in caught.value.hint
    bench.device().check()
    # where nothing can be flashed, none is needed
    bench.device(flasher="no-such-flasher", port="socket://127.0.0.1:9").check()
    assert bench.calls() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ports": "x"}, "unknown field `ports`"),
        ({"usb": "303A:1001"}, "Expected `array`, got `str`"),
        ({"model_bytes": 0}, "name no place in a flash"),
    ],
)
def test_options_that_are_wrong(bench: Bench, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        bench.device(**options)
    assert "target my-board: device_options.serial" in caught.value.message


def test_a_target_without_options() -> None:
    for transport in ("serial", "qemu"):
        target = Target(
            name="bare", board="b", transport=transport, compiler="none", profiler="none"
        )
        with pytest.raises(EdgeDeployError, match=f"device_options.{transport} is not there"):
            open_device(target)
