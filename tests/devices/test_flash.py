"""Flashing: what differs is written, nothing is believed, and every refusal has its remedy."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from misbehaving import gone
from virtual import program

from edgedeploy.devices import flash as module
from edgedeploy.devices.flash import Flasher, Part, find_flasher, flash
from edgedeploy.devices.supervised import Supervised
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)

FAKE = Path(__file__).with_name("fake_esptool.py")
SIZE = 1 << 16
# Trying again would not help.
ONCE = {"permission", "other_chip", "locked", "odd"}


class Board:
    """The stand-in's flash and script, and the parts that are to be there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "flash.bin").write_bytes(b"\xff" * SIZE)
        fake = program(
            folder / "esptool", f'#!/bin/sh\nexec "{sys.executable}" -I -S "{FAKE}" "$@"\n'
        )
        self.flasher = Flasher(
            program=str(fake), chip="esp32s3", port="/dev/x", baud=460800, pause_s=0.01
        )
        self.parts = [
            self.part("bootloader", 0x0, b"boot" * 500),
            self.part("app", 0x1000, b"app" * 1000),
            self.part("model", 0x8000, b"EDL2" + bytes(range(255))),
        ]

    def part(self, name: str, address: int, data: bytes) -> Part:
        path = self.folder / f"{name}, of 'this'.bin"
        path.write_bytes(data)
        return Part(name=name, address=address, path=str(path))

    def script(self, *faults: str) -> None:
        (self.folder / "script").write_text("\n".join(faults))

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def commands(self) -> list[tuple[str, int]]:
        """Each call's command and how many files it named."""
        found = []
        for words in self.calls():
            command = next(word for word in words if word.endswith("-flash"))
            found.append((command, sum(word.endswith(".bin") for word in words)))
        return found

    def holds(self) -> bool:
        data = (self.folder / "flash.bin").read_bytes()
        return all(
            data[part.address :].startswith(Path(part.path).read_bytes()) for part in self.parts
        )


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setenv("FAKE_BOARD", str(tmp_path))
    return Board(tmp_path)


def test_an_empty_flash_gets_all_parts(board: Board) -> None:
    assert flash(board.flasher, board.parts) == ["bootloader", "app", "model"]
    assert board.holds()
    assert board.commands() == [("verify-flash", 3), ("write-flash", 3), ("verify-flash", 3)]
    for words in board.calls():
        assert words[:8] == [
            *("--chip", "esp32s3", "--port", "/dev/x", "--baud", "460800"),
            *("--before", "default-reset"),
        ]
    resets = [words[words.index("--after") + 1] for words in board.calls()]
    assert resets == ["hard-reset", "no-reset", "hard-reset"]


def test_what_is_there_is_not_written_again(board: Board) -> None:
    flash(board.flasher, board.parts)
    (board.folder / "calls").unlink()
    assert flash(board.flasher, board.parts) == []
    assert board.commands() == [("verify-flash", 3)]


def test_only_the_part_that_differs_is_written(board: Board) -> None:
    flash(board.flasher, board.parts)
    (board.folder / "calls").unlink()
    Path(board.parts[2].path).write_bytes(b"EDL2 another model")
    assert flash(board.flasher, board.parts) == ["model"]
    assert board.holds()
    assert board.commands() == [("verify-flash", 3), ("write-flash", 1), ("verify-flash", 3)]


def test_a_flash_changed_by_another_is_noticed(board: Board) -> None:
    flash(board.flasher, board.parts)
    path = board.folder / "flash.bin"
    data = bytearray(path.read_bytes())
    data[0x1001] ^= 1
    path.write_bytes(data)
    assert flash(board.flasher, board.parts) == ["app"]
    assert board.holds()


def test_each_reset_is_waited_for(board: Board) -> None:
    settled: list[int] = []
    flash(board.flasher, board.parts, lambda: settled.append(len(board.calls())))
    assert settled == [1, 2, 3]


@pytest.mark.parametrize("fault", ["no_boot", "busy", "noise", "serial"])
def test_a_fault_that_passes_is_tried_again(board: Board, fault: str) -> None:
    board.script(fault, fault, "ok", fault, "ok")
    assert flash(board.flasher, board.parts) == ["bootloader", "app", "model"]
    assert board.holds()
    assert len(board.calls()) == 6


def test_a_write_cut_in_half_is_written_again(board: Board) -> None:
    board.script("ok", "cut")
    assert flash(board.flasher, board.parts) == ["bootloader", "app", "model"]
    assert board.holds()


@pytest.mark.parametrize(
    ("fault", "kind", "message", "hint"),
    [
        ("no_boot", MissingError, "esp32s3 at /dev/x does not enter its boot", "Hold BOOT"),
        ("wrong_mode", MissingError, "does not enter its boot loader", "Hold BOOT"),
        ("busy", MissingError, "/dev/x is in use by another program", "serial monitor"),
        ("gone", MissingError, "/dev/x went away", "Plug the board in"),
        ("permission", MissingError, "no permission to use /dev/x", "dialout"),
        ("other_chip", InputError, "chip at /dev/x is ESP32-C3, the target's is ESP32-S3", ""),
        ("noise", WorkerError, "the connection to /dev/x broke down", "data cable"),
        ("serial", WorkerError, "the connection to /dev/x broke down", "flash_baud"),
        ("md5", StorageError, "is not what was written", "worn out"),
        ("locked", UnsupportedError, "locked by its security fuses", "without secure boot"),
        ("odd", EdgeDeployError, "esptool verify-flash at /dev/x ended with exit code 2", "log"),
    ],
)
def test_a_fault_that_stays_is_named(
    board: Board, fault: str, kind: type[EdgeDeployError], message: str, hint: str
) -> None:
    tries = 1 if fault in ONCE else 3
    board.script(*[fault] * 9)
    with pytest.raises(EdgeDeployError) as caught:
        flash(board.flasher, board.parts)
    assert type(caught.value) is kind
    assert message in caught.value.message
    assert ("(3 tries)" in caught.value.message) == (tries == 3)
    assert hint in caught.value.hint
    assert "ERROR: A " in caught.value.log
    assert len(board.calls()) == tries


def test_a_flash_that_is_too_small(board: Board) -> None:
    board.parts[2] = board.part("model", 0x8000, bytes(SIZE))
    with pytest.raises(UnsupportedError, match="a flash of 65536 bytes, too small") as caught:
        flash(board.flasher, board.parts)
    assert "smaller model" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"chip": "esp99"}, InputError, "the esptool here knows no chip esp99"),
        ({"reset": "hard_reset"}, MissingError, "version 5 or later is needed"),
    ],
)
def test_what_the_program_does_not_know(
    board: Board, change: dict[str, str], kind: type[EdgeDeployError], message: str
) -> None:
    fields = {name: getattr(board.flasher, name) for name in board.flasher.__struct_fields__}
    with pytest.raises(kind, match=message):
        flash(Flasher(**{**fields, **change}), board.parts)


def test_what_does_not_read_back_is_no_success(board: Board) -> None:
    board.script("ok", "forgets")
    with pytest.raises(StorageError, match="bootloader, app, model read back otherwise"):
        flash(board.flasher, board.parts)


def test_a_program_that_says_nothing_of_a_part(board: Board) -> None:
    board.script("mute")
    with pytest.raises(WorkerError, match="said nothing of bootloader, app, model") as caught:
        flash(board.flasher, board.parts)
    assert "Verifying 0x7d0 (2000) bytes" in caught.value.log


def test_a_stall_ends(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_S", 0.5)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    board.script("stall", "stall", "stall")
    with pytest.raises(WorkerError, match=r"connection to /dev/x broke down \(2 tries\)"):
        flash(board.flasher, board.parts)
    assert len(board.calls()) == 2


def test_an_interrupt_ends_the_program(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def interrupted(running: Supervised, timeout_s: float) -> int:
        pids.append(running.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedeploy.devices.supervised.Supervised.wait", interrupted)
    board.script("stall")
    with pytest.raises(KeyboardInterrupt):
        flash(board.flasher, board.parts)
    assert gone(pids[0])


def test_the_program_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(MissingError, match="esptool, which writes the board's flash") as caught:
        find_flasher("esptool")
    assert caught.value.hint == "pip install 'esptool>=5'"
    on_path = program(tmp_path / "path" / "esptool", "#!/bin/sh\n")
    assert find_flasher("esptool") == str(on_path)
    beside = program(tmp_path / "bin" / "esptool", "#!/bin/sh\n")
    assert find_flasher("esptool") == str(beside)
    assert find_flasher(str(on_path)) == str(on_path)
    assert shutil.which("esptool") == str(on_path)
