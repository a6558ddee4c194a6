"""The emulated boards, for real in QEMU, and what the Makefile says and does."""

import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from board_line import (
    BATCH,
    EMULATORS,
    FIRMWARE,
    HASH,
    INFO,
    LOAD,
    MEMORY,
    OK,
    PROFILE,
    READ,
    SAMPLES,
    SELF_TEST,
    Debugger,
    Line,
    build,
    emulated_board,
    needs,
    posix_board,
)

IMAGE = bytes((7 * i) & 255 for i in range(64))
FACTS = {
    "qemu-xtensa": ("qemu lx60-nommu lx106", "xtensa lx106", 1, 0x62000000, 32 << 20),
    "qemu-riscv": ("qemu virt rv32imac", "rv32imac", 1, 0x84000000, 64 << 20),
}


@pytest.fixture(scope="session", params=sorted(EMULATORS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An emulated port's name and its firmware."""
    needs(EMULATORS[request.param].command[0])
    return request.param, build(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def board(built: tuple[str, Path], tiny_espdl: Path) -> Iterator[tuple[Line, int]]:
    with emulated_board(*built, tiny_espdl) as (line, door):
        line.hello()
        yield line, door


def info(board: Line) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(board.ask(INFO, struct.pack("<I", 0)).payload[4:])
    return found


def ticks(board: Line, count: int) -> list[int]:
    """Of `count` timed runs."""
    assert board.run(IMAGE, count, 2).status == OK
    samples = board.ask(SAMPLES, struct.pack("<I", 0)).payload[4:]
    assert all(us == 0 for _, us in struct.iter_unpack("<QQ", samples))
    return [passed for passed, _ in struct.iter_unpack("<QQ", samples)]


def test_a_board_says_what_it_is_and_runs_the_model(
    built: tuple[str, Path], board: tuple[Line, int], tiny_espdl: Path
) -> None:
    line, _ = board
    name, cpu, step, samples, samples_bytes = FACTS[built[0]]
    facts = info(line)
    assert (facts["board"], facts["cpu"], facts["ticks_per_count"]) == (name, cpu, step)
    assert (facts["tick_unit"], facts["virtual"], facts["clock_hz"]) == ("instructions", True, 0)
    assert (facts["samples_address"], facts["samples_bytes"]) == (samples, samples_bytes)
    assert facts["compiler"].startswith("gcc ")
    data = tiny_espdl.read_bytes()
    digest = line.ask(HASH, struct.pack("<I", len(data))).payload
    assert digest == hashlib.sha256(data).digest()
    assert line.load() == (64, 10)
    assert line.ask(SELF_TEST).numbers("HHII") == (1, 0, 10, 0)
    line.write_input(IMAGE)
    counts = ticks(line, 5)
    # 8,976 multiplications and additions; to the instruction, whatever steps the counter takes
    assert 20_000 < counts[0] < 500_000
    assert set(counts) == {counts[0]}
    assert line.ask(PROFILE, struct.pack("<I", 1)).numbers("H") == (6,)
    memory = line.ask(MEMORY).numbers("12I")
    assert memory[6:8] == (320 << 10, 8 << 20)
    deepest, stack, code, static = memory[8:]
    assert 200 < deepest < 16_384 < stack
    assert 20_000 < code < 1 << 20
    assert 16_384 < static < 192 << 10
    assert line.command("name") == ["m-name-dut-[edgedeploy]"]


def test_instruction_counts_and_results_repeat_exactly(
    built: tuple[str, Path], tiny_espdl: Path
) -> None:
    seen = []
    for _ in range(2):
        with emulated_board(*built, tiny_espdl) as (line, _):
            line.hello()
            line.load()
            line.write_input(IMAGE)
            counts = ticks(line, 20)
            scores = line.ask(READ, struct.pack("<BIH", 0, 0, 10)).payload
            seen.append((counts, scores))
    assert seen[0] == seen[1]


def test_both_boards_and_the_process_agree(
    board: tuple[Line, int], posix_firmware: Path, tiny_espdl: Path
) -> None:
    results = []
    with posix_board(posix_firmware, "--model", str(tiny_espdl)) as process:
        process.hello()
        for line in (board[0], process):
            line.load()
            line.write_input(IMAGE)
            results.append(line.run(IMAGE).payload)
    assert results[0] == results[1]


def test_samples_written_by_a_probe_run_in_one_go(board: tuple[Line, int]) -> None:
    line, door = board
    line.load()
    images = [bytes((i * k + 3) & 255 for i in range(64)) for k in range(1, 30)]
    packed = b"".join(images)
    at = info(line)["samples_address"]
    with Debugger(door) as probe:
        probe.write(at, packed)
    answer = line.ask(BATCH, struct.pack("<II", len(images), zlib.crc32(packed)))
    assert answer.status == OK
    offset, count, crc = answer.numbers("III")
    with Debugger(door) as probe:
        results = probe.read(at + offset, count)
    assert (offset % 16, zlib.crc32(results)) == (0, crc)
    line.write_input(images[-1])
    assert line.run(images[-1]).numbers("II")[1] == zlib.crc32(results[-10:])


def symbol(program: Path, name: str) -> int:
    """The address of a function."""
    needs("nm")
    listed = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True)
    return next(
        int(line[:8], 16) for line in listed.stdout.splitlines() if line.endswith(f" {name}")
    )


def test_a_fault_is_said_and_the_board_starts_over(
    built: tuple[str, Path], board: tuple[Line, int]
) -> None:
    line, door = board
    assert line.ask(MEMORY).status == OK
    with Debugger(door) as probe:
        probe.write(symbol(built[1], "text_command"), bytes(12))
    line.write(b"name%")
    said = line.until(b"m-ready\r\n").decode()
    fault, _, boot = said.partition("\r\n")
    assert fault.startswith("e-[trap cause 0x")
    pc = int(fault.partition("pc 0x")[2][:8], 16)
    assert symbol(built[1], "text_command") <= pc < symbol(built[1], "text_command") + 12
    assert boot.startswith("m-timestamp-mode-performance\r\n")
    answer = line.ask(MEMORY)
    assert (answer.status, answer.payload) == (2, b"session")
    # what the firmware keeps in memory is as after power on, constants and zeros alike
    line.hello()
    assert line.load() == (64, 10)
    line.write_input(IMAGE)
    assert line.run(IMAGE).status == OK


def test_the_counter_is_exact_to_the_instruction(
    built: tuple[str, Path], tmp_path: Path, tiny_espdl: Path
) -> None:
    port, _ = built
    counting = Path(__file__).with_name("stand_ins") / "counting_engine"
    program = build(tmp_path, port, f"ENGINE={counting}")
    taken = []
    with emulated_board(port, program, tiny_espdl) as (line, _):
        line.hello()
        line.ask(LOAD)
        for turns in range(1, 60):
            line.write_input(bytes([turns]))
            assert line.run(bytes([turns]), 3).status == OK
            samples = line.ask(SAMPLES, struct.pack("<I", 0)).payload[4:]
            taken.append([passed for passed, _ in struct.iter_unpack("<QQ", samples)])
    assert all(len(set(three)) == 1 for three in taken)
    steps = {after[0] - before[0] for before, after in itertools.pairwise(taken)}
    # a turn is a nop, an addition and a branch
    assert steps == {3}
    assert taken[0][0] < 40


def processor_s() -> float:
    """What this process's children have used so far."""
    used = [child.cpu_times() for child in psutil.Process().children()]
    return sum(one.user + one.system for one in used)


def test_waiting_costs_the_host_nothing(board: tuple[Line, int]) -> None:
    line, _ = board
    before = processor_s()
    line.quiet(1.0)
    assert processor_s() - before < 0.2
    assert before > 0
    assert line.command("name") == ["m-name-dut-[edgedeploy]"]


def make(*variables: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PATH": path})
    command = ["make", "-C", str(FIRMWARE), *variables]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_an_unknown_port_and_an_absent_compiler_are_named(tmp_path: Path) -> None:
    unknown = make("PORT=esp", f"BUILD={tmp_path}")
    assert unknown.returncode == 2
    assert 'PORT is "esp"; there are: posix qemu-riscv qemu-xtensa' in unknown.stderr
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    absent = make("PORT=qemu-xtensa", f"BUILD={tmp_path / 'x'}", path=str(tools))
    assert absent.returncode == 2
    message = 'xtensa-lx106-elf-gcc is not here; "make toolchain" installs it'
    assert message in absent.stderr
    assert not (tmp_path / "x").exists()


def test_what_depends_on_a_changed_file_is_compiled_again_and_nothing_said(tmp_path: Path) -> None:
    copy = tmp_path / "firmware"
    shutil.copytree(FIRMWARE, copy, ignore=shutil.ignore_patterns("build", "engine"))
    folder = tmp_path / "built"
    objects = [folder / f"core-{name}.o" for name in ("sha256", "crc32")]

    def made() -> list[int]:
        command = ["make", "-C", str(copy), "PORT=posix", f"BUILD={folder}", *map(str, objects)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said = [line for line in done.stdout.splitlines() if "directory" not in line]
        assert (done.stderr, [line for line in said if "up to date" not in line]) == ("", [])
        return [path.stat().st_mtime_ns for path in objects]

    first = made()
    assert made() == first
    (copy / "core" / "sha256.h").touch()
    second = made()
    assert second[0] > first[0]
    assert second[1] == first[1]
