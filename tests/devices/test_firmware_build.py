"""Firmware is made once for its sources and compiler, and what is missing is named."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from virtual import MAKEFILE, firmware_folder, program

from edgedeploy.errors import EdgeDeployError, InputError, MissingError
from edgedeploy.firmware import build_firmware

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return firmware_folder(tmp_path, monkeypatch)


def calls(firmware: Path) -> int:
    path = firmware.parents[1] / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_it_is_made_once(firmware: Path, own_folders: Path) -> None:
    image = build_firmware("tiny")
    assert image.read_bytes() == b"int main;\n"
    assert image.is_relative_to(own_folders / "cache" / "firmware" / "tiny")
    assert build_firmware("tiny") == image
    assert calls(firmware) == 1
    assert not list(firmware.rglob("*.elf"))


def test_two_at_a_time_make_it_once(firmware: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        images = set(pool.map(build_firmware, ["tiny"] * 4))
    assert len(images) == 1
    assert calls(firmware) == 1


@pytest.mark.parametrize("name", ["ports/tiny/main.c", "core/a.h", "core/new.h", "Makefile"])
def test_changed_sources_make_it_anew(firmware: Path, name: str) -> None:
    before = build_firmware("tiny")
    text = (firmware / name).read_text() if (firmware / name).exists() else ""
    (firmware / name).write_text(f"{text}\n")
    assert build_firmware("tiny") != before
    assert calls(firmware) == 2


@pytest.mark.parametrize("name", ["README.md", "build/esp/x.bin", ".git/HEAD"])
def test_what_is_no_source_does_not(firmware: Path, name: str) -> None:
    before = build_firmware("tiny")
    (firmware / name).parent.mkdir(parents=True, exist_ok=True)
    (firmware / name).write_text("other")
    assert build_firmware("tiny") == before
    assert calls(firmware) == 1


def test_another_compiler_makes_it_anew(firmware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build_firmware("tiny")
    monkeypatch.setenv("FAKECC_VERSION", "2.0")
    after = build_firmware("tiny")
    assert after != before
    assert before.exists()
    assert calls(firmware) == 2


def test_a_damaged_image_is_made_anew(firmware: Path) -> None:
    image = build_firmware("tiny")
    image.write_bytes(b"int mine;\n")
    assert build_firmware("tiny").read_bytes() == b"int main;\n"
    assert calls(firmware) == 2


def test_a_make_above_this_one_and_flags_of_the_host_do_not_matter(
    firmware: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MAKEFLAGS": "n -- PORT=other BUILD=/nowhere CC=false",
        "CC": "false",
        "PORT": "other",
        "BUILD": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert build_firmware("tiny").read_bytes() == b"int main;\n"
    assert calls(firmware) == 1


def test_a_compiler_that_is_not_there(firmware: Path) -> None:
    (firmware / "Makefile").write_text(MAKEFILE.format(compiler="no-such-elf-gcc -O2"))
    with pytest.raises(MissingError, match="cross compiler no-such-elf-gcc is not on") as caught:
        build_firmware("tiny")
    assert "`make toolchain`" in caught.value.hint
    assert "apt-get install gcc-for-fakes libc-for-fakes" in caught.value.hint


def test_a_makefile_that_looks_for_its_compiler_itself(firmware: Path) -> None:
    (firmware / "Makefile").write_text(
        'ifeq ($(PORT),tiny)\n$(error no-gcc is not here; "make toolchain" has it (gcc-x))\nendif\n'
    )
    with pytest.raises(MissingError, match=r"^no-gcc is not here") as caught:
        build_firmware("tiny")
    assert caught.value.hint == '"make toolchain" has it (gcc-x)'
    (firmware / "Makefile").write_text("$(error of another kind)\n")
    with pytest.raises(EdgeDeployError, match="make could not ask for the compiler of tiny"):
        build_firmware("tiny")


def test_a_compiler_that_does_not_run(firmware: Path) -> None:
    program(firmware.parents[1] / "bin" / "fakecc", "#!/bin/sh\necho no library >&2; exit 9\n")
    with pytest.raises(MissingError, match="fakecc --version ended with exit code 9") as caught:
        build_firmware("tiny")
    assert caught.value.log == "no library"


def test_no_make(firmware: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="make is not on PATH") as caught:
        build_firmware("tiny")
    assert caught.value.hint == "apt-get install make"


def test_sources_that_do_not_compile(firmware: Path, own_folders: Path) -> None:
    (firmware / "ports" / "tiny" / "main.c").write_text("BROKEN\n")
    with pytest.raises(EdgeDeployError, match="make could not build tiny") as caught:
        build_firmware("tiny")
    assert type(caught.value) is EdgeDeployError
    assert "main.c:1: error: it is BROKEN" in caught.value.log
    assert f"make -C {firmware} PORT=tiny" in caught.value.hint
    kept = [path.name for path in (own_folders / "cache" / "firmware" / "tiny").iterdir()]
    assert [name for name in kept if not name.endswith(".lock")] == []


def test_sources_changed_while_it_is_made(firmware: Path) -> None:
    program(
        firmware.parents[1] / "bin" / "fakecc",
        '#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit\necho >> core/a.h\ncp "$1" "$2"\n',
    )
    with pytest.raises(EdgeDeployError, match="were changed while tiny was being built"):
        build_firmware("tiny")


def test_a_makefile_that_makes_nothing_of_it(firmware: Path) -> None:
    (firmware / "Makefile").write_text("CC := fakecc\nall:\n\ttouch $(BUILD)/other\n")
    with pytest.raises(EdgeDeployError, match=r"made neither firmware\.elf nor firmware for tiny"):
        build_firmware("tiny")


def test_a_port_that_is_not_there(firmware: Path) -> None:
    with pytest.raises(InputError, match="no port 'tin'") as caught:
        build_firmware("tin")
    assert caught.value.hint == "Did you mean 'tiny'?"
    (firmware / "Makefile").unlink()
    with pytest.raises(InputError, match="no port 'tiny'"):
        build_firmware("tiny")
