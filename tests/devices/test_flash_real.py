"""The real esptool, as flash.py calls it, against a chip's boot loader in this process."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rom import CHIP_ID, Rom

from edgedeploy.devices.flash import Flasher, Part, find_flasher, flash
from edgedeploy.errors import InputError, MissingError

pytest.importorskip("esptool", reason="esptool is not installed")


def flasher(rom: Rom) -> Flasher:
    program = find_flasher("esptool")
    return Flasher(program=program, chip="esp32s3", port=rom.port, baud=460800, pause_s=0.01)


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    found = []
    for name, address, size in (("app", 0x10000, 70_001), ("a, 'model'", 0x200000, 123_457)):
        path = tmp_path / f"{name}.bin"
        path.write_bytes(hashlib.shake_128(name.encode()).digest(size // 2) * 2 + b"odd")
        found.append(Part(name=name, address=address, path=str(path)))
    return found


def test_what_differs_is_written_and_read_back(parts: list[Part]) -> None:
    with Rom() as rom:
        assert flash(flasher(rom), parts) == ["app", "a, 'model'"]
        for part in parts:
            data = Path(part.path).read_bytes()
            assert rom.flash[part.address : part.address + len(data)] == data
        rom.flash[0x200100] ^= 0xFF
        rom.writes.clear()
        assert flash(flasher(rom), parts) == ["a, 'model'"]
        assert {address >> 20 for address, _ in rom.writes} == {2}
        rom.writes.clear()
        assert flash(flasher(rom), parts) == []
        assert rom.writes == []


def test_a_line_cut_while_writing_is_survived(parts: list[Part]) -> None:
    with Rom(crash_after=3) as rom:
        assert flash(flasher(rom), parts) == ["app", "a, 'model'"]
        assert rom.crash_after == -1
        data = Path(parts[1].path).read_bytes()
        assert rom.flash[0x200000 : 0x200000 + len(data)] == data


def test_another_chip_is_named(parts: list[Part]) -> None:
    with Rom(chip_id=5) as rom, pytest.raises(InputError) as caught:
        flash(flasher(rom), parts)
    assert caught.value.message == (f"the chip at {rom.port} is ESP32-C3, the target's is ESP32-S3")
    assert CHIP_ID != 5


def test_a_chip_that_is_not_there(parts: list[Part]) -> None:
    with Rom() as rom:
        pass
    with pytest.raises(MissingError, match=r"socket://127\.0\.0\.1:\d+ went away \(3 tries\)"):
        flash(flasher(rom), parts)


def test_an_image_of_the_chip_is_packed_and_read_again(tmp_path: Path) -> None:
    """Offline: merge-bin and image-info of the same program, on files of the chip's format."""
    segment = b"\x00" * 252 + b"done"
    image = bytearray(b"\xe9\x01\x02\x3f" + (0x4037_4000).to_bytes(4, "little"))
    image += bytes([0xEE, 0, 0, 0, CHIP_ID, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 1])
    image += (0x4037_4000).to_bytes(4, "little") + len(segment).to_bytes(4, "little") + segment
    checksum = 0xEF
    for byte in segment:
        checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes([checksum])
    image += hashlib.sha256(image).digest()
    app, merged = tmp_path / "app.bin", tmp_path / "merged.bin"
    app.write_bytes(image)
    program = [find_flasher("esptool"), "--chip", "esp32s3"]
    info = subprocess.run([*program, "image-info", app], check=True, capture_output=True, text=True)
    assert "Checksum: " in info.stdout
    assert "(valid)" in info.stdout
    assert "invalid" not in info.stdout
    command = [*program, "merge-bin", "-o", merged, "--flash-size", "8MB", "0x10000", app]
    subprocess.run(command, check=True, capture_output=True)
    data = merged.read_bytes()
    assert data[:0x10000] == b"\xff" * 0x10000
    assert data[0x10000:] == image
    assert shutil.which(program[0]) or sys.executable
