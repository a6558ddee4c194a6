"""The ESP-IDF project, as far as it can be tried without ESP-IDF and without a board."""

import csv
import hashlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from board_line import FIRMWARE, needs

PROJECT = FIRMWARE / "ports" / "esp-idf"
STAND_INS = Path(__file__).with_name("stand_ins")
TARGETS = Path(__file__).parents[2] / "targets"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
CHECKS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
INCLUDES = (f"-I{FIRMWARE}", f"-I{PROJECT / 'main'}", f"-I{STAND_INS / 'esp_idf'}")
TYPES = {"app": 0, "data": 1}
SUBTYPES = {"factory": 0x00, "phy": 0x01, "nvs": 0x02}
SECTOR = 0x1000
PAGE = 0x10000  # what flash is mapped in


class Partition(NamedTuple):
    """A line of a partition table."""

    name: str
    type: str
    subtype: str
    address: int
    size: int


def partitions(name: str) -> list[Partition]:
    lines = [line for line in (PROJECT / name).read_text().splitlines() if line[:1] != "#"]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    return [Partition(*row[:3], int(row[3], 0), int(row[4], 0)) for row in rows]


def packed(table: list[Partition]) -> bytes:
    """A partition table as it lies in flash: 32 bytes an entry, then their MD5."""
    entries = b""
    for one in table:
        subtype = SUBTYPES.get(one.subtype)
        kind = TYPES[one.type], int(one.subtype, 0) if subtype is None else subtype
        place = struct.pack("<2sBBII16sI", b"\xaa\x50", *kind, *one[3:], one.name.encode(), 0)
        entries += place
    digest = b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(entries).digest()
    return (entries + digest).ljust(0xC00, b"\xff")


def settings(*names: str) -> dict[str, str]:
    """Of sdkconfig files, the later ones on top."""
    found = {}
    for name in names:
        for line in (PROJECT / name).read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition("=")
                assert re.fullmatch(r"CONFIG_[A-Z0-9_]+", key), line
                found[key] = value.strip('"')
    return found


def compiled(output: Path, *arguments: str | Path) -> Path:
    compiler = "g++" if any(str(word).endswith(".cpp") for word in arguments) else "gcc"
    needs(compiler)
    command = [compiler, *WARNINGS, *CHECKS, *INCLUDES, *map(str, arguments), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def said(program: Path) -> list[str]:
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("table", "flash", "target"),
    [
        ("partitions.csv", 8 << 20, "esp32s3"),
        ("partitions-16mb.csv", 16 << 20, "esp32s3-n16r8"),
        ("partitions-16mb.csv", 16 << 20, "esp32p4"),
    ],
)
def test_partitions_fit_and_the_model_is_where_the_target_says(
    table: str, flash: int, target: str, tmp_path: Path
) -> None:
    found = partitions(table)
    assert [one.name for one in found] == ["nvs", "phy_init", "factory", "model"]
    end = int(settings("sdkconfig.defaults")["CONFIG_PARTITION_TABLE_OFFSET"], 0) + SECTOR
    for one in found:
        assert one.address >= end, f"{one.name} overlaps what is before it"
        assert one.address % (PAGE if one.name in {"factory", "model"} else SECTOR) == 0
        assert one.size % SECTOR == 0
        end = one.address + one.size
    assert end == flash
    model = found[-1]
    # not one of the subtypes that ESP-IDF gives a meaning to
    assert (model.type, model.subtype) == ("data", "0x40")
    options = msgspec.toml.decode((TARGETS / f"{target}.toml").read_bytes())
    serial = options["device_options"]["serial"]
    assert (model.address, model.size) == (serial["model_address"], serial["model_bytes"])
    assert model.size == options["memory_bytes"]["model_partition"]
    assert flash == options["memory_bytes"]["flash"]
    assert serial["firmware"] == f"ports/esp-idf/build/{target}"
    # what board.c says of itself is CONFIG_IDF_TARGET, the chip that build.py names
    assert options["run_options"]["board"] == serial["chip"]
    from edgedeploy.devices.image import read_partitions

    binary = tmp_path / "partition-table.bin"
    binary.write_bytes(packed(found))
    read = [(one.label, one.address, one.size_bytes) for one in read_partitions(binary)]
    assert read == [(one.name, one.address, one.size) for one in found]


def test_settings_of_the_boards() -> None:
    s3 = settings("sdkconfig.defaults", "sdkconfig.defaults.esp32s3")
    expected = {
        "CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_240": "y",
        "CONFIG_COMPILER_OPTIMIZATION_PERF": "y",
        "CONFIG_SPIRAM": "y",
        "CONFIG_SPIRAM_MODE_OCT": "y",
        "CONFIG_SPIRAM_SPEED_80M": "y",
        "CONFIG_ESPTOOLPY_FLASHMODE_QIO": "y",
        "CONFIG_ESPTOOLPY_FLASHFREQ_80M": "y",
        "CONFIG_ESPTOOLPY_FLASHSIZE_8MB": "y",
        "CONFIG_ESP32S3_DATA_CACHE_64KB": "y",
        "CONFIG_ESP32S3_DATA_CACHE_LINE_64B": "y",
        "CONFIG_PARTITION_TABLE_CUSTOM": "y",
        "CONFIG_PARTITION_TABLE_CUSTOM_FILENAME": "partitions.csv",
        # a long inference must not be taken for a hang
        "CONFIG_ESP_TASK_WDT_EN": "n",
        # nothing but the protocol on the line to the host
        "CONFIG_EDGEDEPLOY_LINE_USB": "y",
        "CONFIG_ESP_CONSOLE_UART_DEFAULT": "y",
        "CONFIG_ESP_CONSOLE_SECONDARY_NONE": "y",
    }
    assert {key: s3.get(key) for key in expected} == expected
    large = settings("sdkconfig.defaults", "sdkconfig.16mb")
    assert large["CONFIG_PARTITION_TABLE_CUSTOM_FILENAME"] == "partitions-16mb.csv"
    assert large["CONFIG_ESPTOOLPY_FLASHSIZE_16MB"] == "y"
    p4 = settings("sdkconfig.defaults", "sdkconfig.defaults.esp32p4")
    assert p4["CONFIG_PARTITION_TABLE_CUSTOM_FILENAME"] == "partitions-16mb.csv"
    uart = settings("sdkconfig.defaults", "sdkconfig.uart")
    assert (uart["CONFIG_EDGEDEPLOY_LINE_UART"], uart["CONFIG_ESP_CONSOLE_NONE"]) == ("y", "y")


def test_what_the_sources_ask_of_the_settings_is_declared() -> None:
    declared = set(re.findall(r"config (\w+)", (PROJECT / "main/Kconfig.projbuild").read_text()))
    sources = [*(PROJECT / "main").glob("*.[ch]"), *(PROJECT / "main").glob("*.[ch]pp")]
    used = {
        name
        for path in [*sources, *PROJECT.glob("sdkconfig*")]
        for name in re.findall(r"CONFIG_(EDGEDEPLOY_\w+)", path.read_text())
    }
    assert used <= declared
    assert "EDGEDEPLOY_MARKER_GPIO" in used
    listed = (PROJECT / "main/CMakeLists.txt").read_text()
    assert all(path.name in listed for path in sources if path.suffix in {".c", ".cpp"})


@pytest.mark.parametrize(
    "configured", ["ESP_NOTHING", "EDGEDEPLOY_LINE_UART", "IDF_TARGET_ESP32P4"]
)
def test_the_boards_glue_compiles_for_every_choice(configured: str, tmp_path: Path) -> None:
    pin = -1 if configured == "IDF_TARGET_ESP32P4" else 4
    defines = (f"-DCONFIG_{configured}=1", f"-DCONFIG_EDGEDEPLOY_MARKER_GPIO={pin}")
    for source in sorted((PROJECT / "main").glob("*.c")):
        compiled(tmp_path / "o", "-std=gnu17", "-fsyntax-only", *defines, source)


def test_the_engines_glue_compiles_for_both_cores(tmp_path: Path) -> None:
    includes = ("-DCONFIG_EDGEDEPLOY_BOTH_CORES=1", f"-I{STAND_INS / 'esp_dl'}")
    source = PROJECT / "main/engine_espdl.cpp"
    compiled(tmp_path / "o", "-std=gnu++20", "-fsyntax-only", *includes, source)


def test_the_engine_over_a_stand_in_of_esp_dl(tmp_path: Path) -> None:
    sources = sorted((PROJECT / "main").glob("*.cpp"))
    program = compiled(
        tmp_path / "run",
        *("-std=gnu++20", f"-I{STAND_INS / 'esp_dl'}", STAND_INS / "espdl_run.cpp", *sources),
    )
    assert said(program) == [
        'refused: 0 no flash partition named "model"',
        "refused: 0 no model in flash: it begins with ff ff ff ff, not with EDL2",
        "refused: 0 the model is encrypted; export it without encryption",
        "refused: 0 the model says it has 49 bytes, its place in flash has 64",
        "refused: 0 esp-dl has no operator Einsum (node /last)",
        "refused: 0 the inputs need more than the 0 bytes that are kept for them "
        "(EDGEDEPLOY_INPUT_BYTES)",
        "loaded: 1",
        "input: x type 8 exponent -7 rank 2 shape 1,8 bytes 8",
        "none: 0 0 0",
        "first: 22 20 18 16 14 12 10 8",
        "again: 22 20 18 16 14 12 10 8",
        "order: 0<0> 1<1> ",
        "self-test: 1 1 0 8 0",
        "spoilt: 1 1 1 8 1 at 2: 8, not 99",
        "memory: 48 100 100 20 30 8",
        "metadata: ic01 0",
        "left: 0 0 0 0",
    ]


def test_the_board_counts_beyond_32_bits(tmp_path: Path) -> None:
    sources = (STAND_INS / "board_run.c", PROJECT / "main/board.c")
    lines = said(compiled(tmp_path / "run", "-std=gnu17", *sources))
    assert lines == [
        "ticks: 886800241440 of 886800241440",
        "facts: esp32s3, xtensa lx7, cycles, 240000000 Hz, virtual 0, image 65536",
        "memory: model 6225920, fast 150848, large 4096, stack 2768 of 32768, marker 41",
    ]


def esptool(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "esptool", "--chip", "esp32s3", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named esptool" in done.stderr:
        pytest.skip("esptool is not here")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_image_is_packed_and_read_back(tmp_path: Path) -> None:
    needs("xtensa-lx106-elf-gcc")
    program, image, flash = (tmp_path / name for name in ("s3.elf", "s3.bin", "flash.bin"))
    command = ["xtensa-lx106-elf-gcc", "-O2", "-nostdlib", "-ffreestanding", "-mlongcalls"]
    command += ["-T", str(STAND_INS / "image.ld"), str(STAND_INS / "image.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    flags = ("--flash-mode", "dio", "--flash-freq", "80m", "--flash-size", "8MB")
    esptool("elf2image", *flags, "-o", image, program)
    told = esptool("image-info", image)
    assert re.search(r"Checksum: 0x\w+ \(valid\)", told)
    assert re.search(r"Validation hash: \w{64} \(valid\)", told)
    assert re.search(r"Project name: +edgedeploy", told)
    table = partitions("partitions.csv")
    factory = next(one for one in table if one.name == "factory")
    assert image.stat().st_size < factory.size
    binary = tmp_path / "partition-table.bin"
    binary.write_bytes(packed(table))
    parts = ("0x8000", binary, hex(factory.address), image)
    esptool("merge-bin", "-o", flash, "--flash-size", "8MB", *parts)
    whole = flash.read_bytes()
    assert whole[0x8000 : 0x8000 + 0xC00] == binary.read_bytes()
    assert whole[factory.address : factory.address + image.stat().st_size] == image.read_bytes()


def build_script(path: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of build.sh where PATH is one folder with a shell and Python."""
    for tool in ("sh", "bash", "dirname"):
        (path / tool).symlink_to(f"/usr/bin/{tool}")
    (path / "python3").symlink_to(sys.executable)
    script = str(PROJECT / "build.sh")
    own = {"PATH": str(path), **environment}
    done = subprocess.run(
        [script, *arguments], capture_output=True, text=True, check=False, env=own
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


def test_a_target_without_such_a_firmware_is_told_so(tmp_path: Path) -> None:
    virtual = "is a virtual board: its firmware is built on demand by `edgedeploy deploy`\n"
    boards = "ESP-IDF builds firmware for esp32p4, esp32s3, esp32s3-n16r8\n"
    for index, (name, said) in enumerate(
        (
            ("esp32s3-virtual", f"esp32s3-virtual {virtual}"),
            ("rv32-virtual", f"rv32-virtual {virtual}"),
            ("host", f"target 'host' has no firmware; {boards}"),
            ("esp32s4", f"target 'esp32s4' is not known; {boards}"),
        )
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert build_script(folder, name) == (2, said)


def test_without_esp_idf_it_says_what_is_missing(tools: Path) -> None:
    code, output = build_script(tools, "esp32s3")
    assert code == 3
    assert output.startswith("idf.py is not on PATH and IDF_PATH is not set\n")
    assert "ESP-IDF 5.3 or later" in output


def test_a_wrong_idf_path_and_an_absent_container(tools: Path, tmp_path: Path) -> None:
    code, output = build_script(tools, "esp32s3", IDF_PATH=str(tmp_path))
    assert (code, "no export.sh in it" in output) == (3, True)
    other = tmp_path / "other"
    other.mkdir()
    code, output = build_script(other, "esp32s3", CONTAINER="1")
    assert (code, "neither docker nor podman is on PATH" in output) == (3, True)


@pytest.mark.parametrize(
    ("version", "code", "message"),
    [
        ("ESP-IDF v5.2.3", 3, "idf.py on PATH is version 5.2, expected 5.3 or later"),
        ("cmake not found", 3, "idf.py on PATH does not start (exit code 0): cmake not found"),
        ("ESP-IDF v5.4.1-dirty", 0, ""),
    ],
)
def test_idf_is_asked_for_its_version_and_then_builds(
    version: str, code: int, message: str, tools: Path, tmp_path: Path
) -> None:
    idf = tools / "idf.py"
    log = tmp_path / "log"
    idf.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit 0\necho "$@" > {log}\n'
    )
    idf.chmod(0o755)
    folder = tmp_path / "built"
    found, output = build_script(tools, "esp32s3-n16r8", "--line", "uart", "--build", str(folder))
    assert found == code
    assert message in output
    if code == 0:
        assert log.read_text().split() == [
            *("-C", str(PROJECT), "-B", str(folder)),
            *("-D", "IDF_TARGET=esp32s3", "-D", f"SDKCONFIG={folder / 'sdkconfig'}"),
            *("-D", "SDKCONFIG_DEFAULTS=sdkconfig.defaults;sdkconfig.16mb;sdkconfig.uart", "build"),
        ]


def test_the_build_script_may_be_run() -> None:
    assert os.access(PROJECT / "build.sh", os.X_OK)
