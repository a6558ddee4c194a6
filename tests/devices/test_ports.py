"""Ports: the board's is found by its USB id or named, and one run at a time has it."""

import errno
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from misbehaving import appears

from edgedeploy.devices.ports import Port, can_be_flashed, find_port, listed_ports, port_lock
from edgedeploy.errors import EdgeDeployError, InputError, MissingError, StorageError

USB = ("303a:1001", "10C4:EA60")


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plug in ports: name, VID, PID, serial number; the names are files one may open."""

    def plug(*ports: tuple[str, int | None, int | None, str | None]) -> list[str]:
        found = []
        for name, vid, pid, serial in ports:
            path = tmp_path / name
            path.touch()
            found.append(
                SimpleNamespace(
                    device=str(path), vid=vid, pid=pid, serial_number=serial, description="n/a"
                )
            )
        module = SimpleNamespace(comports=lambda: found)
        monkeypatch.setitem(sys.modules, "serial.tools.list_ports", module)
        return [each.device for each in found]

    return plug


def test_the_board_is_found_by_its_usb_id(plugged: Any) -> None:
    uart, _, board = plugged(
        ("ttyS0", None, None, None),
        ("ttyUSB0", 0x0403, 0x6001, "A1"),
        ("ttyACM0", 0x303A, 0x1001, "7C:DF:A1"),
    )
    assert find_port("", USB, "board") == Port(
        device=board, usb_id="303A:1001", serial_number="7C:DF:A1", description="n/a"
    )
    assert [port.usb_id for port in listed_ports()] == ["303A:1001", "", "0403:6001"]
    assert find_port(uart, USB, "board") == Port(device=uart, description="n/a")


def test_a_link_names_its_port(plugged: Any, tmp_path: Path) -> None:
    plugged(("ttyACM0", 0x303A, 0x1001, "7C"))
    link = tmp_path / "by-id"
    link.symlink_to(tmp_path / "ttyACM0")
    assert find_port(str(link), (), "board").serial_number == "7C"


def test_none_is_plugged_in(plugged: Any) -> None:
    plugged()
    with pytest.raises(MissingError) as caught:
        find_port("", USB, "board")
    assert caught.value.message == (
        "no board is plugged in: looked for 303A:1001, 10C4:EA60; no serial port was seen"
    )
    assert "--port" in caught.value.hint
    other, ours = plugged(("ttyUSB0", 0x0403, 0x6001, None), ("ttyS0", None, None, None))
    with pytest.raises(MissingError) as caught:
        find_port("", USB, "board")
    seen = f"serial ports seen: {ours} (no USB id), {other} (0403:6001)"
    assert caught.value.message.endswith(seen)
    with pytest.raises(MissingError, match="looked for no USB id at all"):
        find_port("", (), "board")


def test_several_are_plugged_in(plugged: Any) -> None:
    ports = plugged(("ttyACM0", 0x303A, 0x1001, "1"), ("ttyUSB0", 0x10C4, 0xEA60, "2"))
    with pytest.raises(InputError, match="2 ports may be the board") as caught:
        find_port("", USB, "board")
    assert all(port in caught.value.message for port in ports)
    assert caught.value.hint == f"Name one: --port {ports[0]}."
    assert find_port(ports[1], USB, "board").serial_number == "2"


def test_a_port_that_is_not_there(plugged: Any) -> None:
    plugged(("ttyS0", None, None, None))
    with pytest.raises(MissingError, match=r"no serial port /dev/ttyX; .* seen: .*ttyS0"):
        find_port("/dev/ttyX", USB, "board")


def test_a_port_that_may_not_be_opened(plugged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = plugged(("ttyACM0", 0x303A, 0x1001, None))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for named in ("", port):
        with pytest.raises(MissingError, match=f"no permission to use {port}") as caught:
            find_port(named, USB, "board")
        assert "dialout" in caught.value.hint


@pytest.mark.parametrize("usb", ["303A", "303A:", "0x303A:0x1001", "303A:1001 "])
def test_a_usb_id_that_is_none(plugged: Any, usb: str) -> None:
    plugged()
    with pytest.raises(InputError, match="is no USB id, expected VID:PID in hex"):
        find_port("", ("10C4:EA60", usb), "board")


@pytest.mark.parametrize(
    "named",
    [
        *("socket://", "socket://host", "tcp://host:1", "socket://a b:1", "loop://"),
        *("socket://host:0", "socket://host:65536", "socket://host:1/log", "socket://host:1?a=b"),
        *("socket://::1:5000", "socket://[::1]", "socket://[pi]:1", "rfc2217://pi.local:4000"),
    ],
)
def test_an_address_that_is_none(named: str) -> None:
    with pytest.raises(InputError, match=r"expected socket://host:port and nothing") as caught:
        find_port(named, USB, "board")
    assert "socket://[::1]:5000" in caught.value.hint


def test_addresses_are_taken_as_they_are() -> None:
    for named in ("socket://127.0.0.1:5000", "socket://pi.local:65535", "socket://[::1]:1"):
        assert find_port(named, USB, "board") == Port(device=named)


def test_a_name_of_something_else(plugged: Any, tmp_path: Path) -> None:
    plugged(("ttyS0", None, None, None))
    for named, what in (
        (str(tmp_path), "is no serial port but a folder"),
        (__file__, "is no serial port but a file"),
        ("/dev/null", "is a device, but no serial port"),
    ):
        with pytest.raises(InputError, match=f"{named} {what}") as caught:
            find_port(named, USB, "board")
        assert caught.value.exit_code == 2
        assert "--port /dev/ttyACM0" in caught.value.hint


def test_a_pseudo_terminal_is_taken_and_left_alone(
    plugged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged()
    first, second = pty.openpty()
    name = os.ttyname(second)
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    assert find_port(name, USB, "board") == Port(device=name)
    monkeypatch.undo()
    os.close(first)
    os.close(second)


def _busy(*_: object) -> int:
    raise OSError(errno.EBUSY, "Device or resource busy")


def test_a_terminal_that_no_list_has(plugged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged()
    first, second = pty.openpty()
    name = os.ttyname(second)
    monkeypatch.setattr("edgedeploy.devices.ports.PTY", re.compile("none"))
    assert find_port(name, USB, "board") == Port(device=name)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(MissingError, match=f"no permission to use {name}"):
            find_port(name, USB, "board")
    monkeypatch.setattr(os, "open", _busy)
    with pytest.raises(MissingError, match=f"{name} cannot be opened: .*busy") as caught:
        find_port(name, USB, "board")
    assert "another program" in caught.value.hint
    monkeypatch.undo()
    os.close(first)
    os.close(second)


def test_no_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial.tools.list_ports", None)
    with pytest.raises(MissingError, match="pyserial, which finds") as caught:
        find_port("", USB, "board")
    assert caught.value.hint == "pip install pyserial"


def test_the_ports_of_this_host_are_listed() -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    assert [port.device for port in listed_ports()] == sorted(p.device for p in listed_ports())


def test_where_a_boot_loader_can_be_reached(tmp_path: Path) -> None:
    first, second = pty.openpty()
    name = os.ttyname(second)
    link = tmp_path / "link"
    link.symlink_to(name)
    assert not can_be_flashed(name)
    assert not can_be_flashed(str(link))
    assert not can_be_flashed("socket://127.0.0.1:5000")
    assert can_be_flashed("/dev/ttyUSB0")
    os.close(first)
    os.close(second)


HOLDER = """
import sys, time
from pathlib import Path
from edgedeploy.devices.ports import port_lock
with port_lock(sys.argv[1]):
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


@pytest.fixture
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_one_run_at_a_time(tmp_path: Path, own_tmp: Path) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    link = tmp_path / "link"
    link.symlink_to(port)
    command = [sys.executable, "-c", HOLDER, str(link), str(tmp_path / "held")]
    with subprocess.Popen(command) as holder:
        appears(tmp_path / "held")
        with (
            pytest.raises(MissingError, match=f"{port} is in use by pid {holder.pid}") as caught,
            port_lock(str(port)),
        ):
            pytest.fail("it was taken")
        assert "wait for that one" in caught.value.hint
        with port_lock(str(tmp_path / "another")):
            holder.kill()
        holder.wait(10)
        with port_lock(str(port)):
            (path,) = (each for each in own_tmp.iterdir() if str(os.getpid()) in each.read_text())
            assert path.stat().st_mode & 0o777 == 0o666
            with pytest.raises(MissingError, match=f"by pid {os.getpid()}"), port_lock(str(port)):
                pytest.fail("it was taken")
        with port_lock(str(port)):
            assert len(list(own_tmp.iterdir())) == 2


def test_a_lock_ends_with_an_error(own_tmp: Path) -> None:
    def breaks() -> None:
        with port_lock("socket://host:1"):
            msg = "ours"
            raise EdgeDeployError(msg)

    for _ in range(2):
        with pytest.raises(EdgeDeployError, match="ours"):
            breaks()
    assert len(list(own_tmp.iterdir())) == 1


def test_a_lock_that_cannot_be_made(own_tmp: Path, tmp_path: Path) -> None:
    with port_lock("socket://host:1"):
        (path,) = own_tmp.iterdir()
    path.unlink()
    (tmp_path / "precious").write_text("kept")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match="cannot write"), port_lock("socket://host:1"):
        pytest.fail("it followed a link")
    assert (tmp_path / "precious").read_text() == "kept"
