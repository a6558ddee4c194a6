"""Text commands: MLPerf Tiny's own, and what `db` makes of a data set's bytes."""

import math
import os
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from board_line import CHECKSUM, FIRMWARE, OK, RESET, Line, ended, file_line, posix_board

EXPONENT = -5  # of the small model's input


@pytest.fixture
def board(posix_firmware: Path, tiny_espdl: Path) -> Iterator[Line]:
    with posix_board(posix_firmware, "--model", str(tiny_espdl)) as line:
        yield line


def load(board: Line, data: bytes, at_once: int = 31) -> list[str]:
    """Send a buffer as MLPerf's runner does; the last answer."""
    assert board.command(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
    for at in range(0, len(data), at_once):
        answer = board.command("db " + data[at : at + at_once].hex())
        assert answer == ([] if at + at_once < len(data) else ["m-load-done"])
    return answer


def has_input(board: Line, expected: np.ndarray) -> bool:
    """Whether the model's input holds just that, told by a run that checks its CRC."""
    board.hello()
    answer = board.run(expected.astype(np.int8).tobytes())
    assert answer.status in {OK, CHECKSUM}
    return answer.status == OK


def test_a_benchmark_session_on_a_terminal(posix_firmware: Path, tiny_espdl: Path) -> None:
    command = [str(posix_firmware), "--model", str(tiny_espdl)]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        path = process.stdout.readline().decode().strip()
        terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
        board = file_line(terminal, terminal)
        boot = board.until(b"m-ready\r\n").decode().split("\r\n")
        assert boot[0] == "m-timestamp-mode-performance"
        assert re.fullmatch(r"m-lap-us-\d+", boot[1])
        assert boot[2:] == ["m-init-done", "m-ready", ""]
        assert board.command("name") == ["m-name-dut-[edgedeploy]"]
        profile = ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[ic01]"]
        assert board.command("profile") == profile
        (stamp,) = board.command("timestamp")
        assert re.fullmatch(r"m-lap-us-\d+", stamp)
        load(board, bytes(range(64)))
        lines = board.command("infer 3 2")
        assert lines[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-3"]
        laps = [int(line.removeprefix("m-lap-us-")) for line in lines[3:5]]
        assert laps[0] < laps[1]
        assert lines[5] == "m-infer-done"
        scores = re.fullmatch(r"m-results-\[([^]]+)\]", lines[6])
        assert scores
        assert len(scores[1].split(",")) == 10
        assert all(re.fullmatch(r"-?\d+\.\d{3}", score) for score in scores[1].split(","))
        assert board.command("results") == lines[6:]
        # a start over keeps the terminal, and so the host's connection
        board.hello()
        assert board.ask(RESET).status == OK
        assert board.until(b"m-ready\r\n").startswith(b"m-timestamp-mode-performance")
        assert board.command("name") == ["m-name-dut-[edgedeploy]"]
        os.close(terminal)


def test_results_are_the_outputs_with_three_decimals(board: Line) -> None:
    load(board, bytes(range(0, 256, 4)))
    shown = board.command("infer 1 0")[-1]
    board.hello()
    board.load()
    data = np.arange(0, 256, 4).astype(np.uint8)
    image = quantized((data - 128.0) * 0.0234375)
    board.write_input(image.tobytes())
    assert board.run(image.tobytes()).status == OK
    scores = np.frombuffer(board.ask(7, struct.pack("<BIH", 0, 0, 10)).payload, np.int8)
    exponent = board.ask(4, b"\1\0").payload[1] - 256
    # a half away from zero, which decimal text of an exact binary number needs no float for
    thousandths = [int(abs(int(s)) * 1000 * 2.0**exponent + 0.5) for s in scores]
    signs = ["-" if s < 0 and t else "" for s, t in zip(scores, thousandths, strict=True)]
    expected = [f"{a}{t // 1000}.{t % 1000:03}" for a, t in zip(signs, thousandths, strict=True)]
    assert shown == f"m-results-[{','.join(expected)}]"


def quantized(values: np.ndarray) -> np.ndarray:
    """Half up, as esp-ppq rounds for this chip."""
    steps = np.clip(values, -1e6, 1e6) * 2.0**-EXPONENT
    return np.clip(np.floor(steps + 0.5), -128, 127).astype(np.int8)


def test_a_data_sets_bytes_become_the_devices(board: Line) -> None:
    data = np.random.default_rng(0).integers(0, 256, 64).astype(np.uint8)
    load(board, data.tobytes())
    assert board.command("infer 1 0")[-2] == "m-infer-done"
    # the model's key mlperf_input is "u8 128 0.0234375"
    assert has_input(board, quantized((data - 128.0) * 0.0234375))
    assert not has_input(board, quantized((data - 127.0) * 0.0234375))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"i8 -83 0.5847029", lambda data: quantized((data.view(np.int8) + 83.0) * 0.5847029)),
        (b"u8 0 4.000000000", lambda data: quantized(data * 4.0)),
        # no such meaning, so the bytes are the device's own
        (b"u8 256 0.0234375", lambda data: data.view(np.int8)),
        (b"u9 128 0.0234375", lambda data: data.view(np.int8)),
        (b"u8 128 0.02343x5", lambda data: data.view(np.int8)),
        (b"u8 128 5.0234375", lambda data: data.view(np.int8)),
    ],
)
def test_the_key_says_what_a_byte_stands_for(
    posix_firmware: Path,
    tiny_espdl: Path,
    tmp_path: Path,
    key: bytes,
    expected: Callable[[np.ndarray], np.ndarray],
) -> None:
    model = tmp_path / "other.espdl"
    assert tiny_espdl.read_bytes().count(b"u8 128 0.0234375") == 1
    model.write_bytes(tiny_espdl.read_bytes().replace(b"u8 128 0.0234375", key))
    data = np.random.default_rng(2).integers(0, 256, 64).astype(np.uint8)
    with posix_board(posix_firmware, "--model", str(model)) as board:
        load(board, data.tobytes())
        assert board.command("infer 1 0")[-2] == "m-infer-done"
        assert has_input(board, expected(data))


def bits_of(number: float) -> int:
    return int(struct.unpack("<I", struct.pack("<f", number))[0])


def test_numbers_are_printed_with_three_decimals(tmp_path: Path) -> None:
    program = tmp_path / "print"
    core = FIRMWARE / "core/print.c"
    sources = (str(Path(__file__).with_name("stand_ins") / "print_run.c"), str(core))
    subprocess.run(["gcc", f"-I{FIRMWARE}", *sources, "-o", str(program)], check=True)
    random = np.random.default_rng(3)
    cases: list[tuple[int, int, int, Fraction]] = []
    for type_of, bits in ((8, 8), (16, 16), (32, 32)):
        limits = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        numbers = [*limits, 0, 1, -1, *random.integers(*limits, 60).tolist()]
        exponents = random.integers(-70, 25, len(numbers)).tolist()
        for number, exponent in zip(numbers, exponents, strict=True):
            value = Fraction(number) * Fraction(2) ** exponent
            cases.append((type_of, exponent, number & ((1 << bits) - 1), value))
    floats = [0.0, 0.0005, 0.9995, 1e-40, 123456.789, -2.5, 4e18, *random.normal(0, 30, 60)]
    for number in np.array(floats, np.float32).tolist():
        cases.append((33, 0, bits_of(number), Fraction(number)))
    lines = "".join(f"{kind} {exponent} {bits}\n" for kind, exponent, bits, _ in cases)
    special = [(bits_of(np.inf), "inf"), (bits_of(-np.inf), "-inf"), (bits_of(np.nan), "nan")]
    lines += "".join(f"33 0 {bits}\n" for bits, _ in special)
    done = subprocess.run([str(program)], input=lines, capture_output=True, text=True, check=True)
    printed = done.stdout.splitlines()
    assert printed[len(cases) :] == [text for _, text in special]
    for text, (*_, value) in zip(printed, cases, strict=False):
        thousandths = math.floor(abs(value) * 1000 + Fraction(1, 2))
        sign = "-" if value < 0 and thousandths else ""
        assert text == f"{sign}{thousandths // 1000}.{thousandths % 1000:03}"


def test_floats_are_quantized_on_the_device(board: Line) -> None:
    half_steps = np.arange(-20, 20) * 2.0**EXPONENT / 2
    special = [0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3.96875, -4.0, 3.99]
    random = np.random.default_rng(1).normal(0, 2, 64 - len(half_steps) - len(special))
    values = np.array([*half_steps, *special, *random], np.float32)
    load(board, values.tobytes())
    assert board.command("infer 1 0")[-2] == "m-infer-done"
    assert has_input(board, quantized(np.nan_to_num(values.astype(float), nan=0.0)))


def test_the_buffer_is_shown_as_loaded(board: Line) -> None:
    load(board, bytes(range(11)), at_once=3)
    assert board.command("db print") == [
        "m-buffer-00-01-02-03-04-05-06-07",
        "m-buffer-08-09-0a",
    ]


def test_more_digits_than_announced_are_left(board: Line) -> None:
    board.command("db load 2")
    assert board.command("db 010203") == ["m-load-done"]
    assert board.command("db print") == ["m-buffer-01-02"]
    assert board.command("db 04") == ["e-[Command 'db load' comes first]"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("nonsense", "Unknown command, see help"),
        ("db", "Command 'db' takes load, print or hex digits"),
        ("db load", "Command 'db load' takes the number of bytes, more than 0"),
        ("db load 0", "Command 'db load' takes the number of bytes, more than 0"),
        ("db load -4", "Command 'db load' takes the number of bytes, more than 0"),
        (
            "db load 99999999999999999999",
            "Command 'db load' takes the number of bytes, more than 0",
        ),
        ("db load 27649", "The buffer holds 27648 bytes"),
        ("db 0g", "Command 'db' takes load, print or hex digits"),
        ("db 012", "Command 'db' takes an even number of hex digits"),
        ("infer 0", "Inference iterations must be >0"),
        ("infer x", "Inference iterations must be >0"),
        ("infer 1 -1", "Inference warmup must be >=0"),
        ("x" * 81, "A command has at most 80 bytes"),
    ],
)
def test_a_wrong_command_says_why(board: Line, command: str, reason: str) -> None:
    assert board.command(command) == [f"e-[{reason}]"]
    assert board.command("name") == ["m-name-dut-[edgedeploy]"]


def test_an_input_of_the_wrong_size_is_refused(board: Line) -> None:
    load(board, bytes(63))
    assert board.command("infer 1") == ["e-[The model's input has 64 bytes, loaded were 63]"]
    board.command("db load 64")
    board.command("db 00")
    assert board.command("infer 1")[0].startswith("e-[The input is not all there")


def test_longest_command_and_line_ends_between(board: Line) -> None:
    assert board.command("\r\n  name" + " " * 72) == ["m-name-dut-[edgedeploy]"]
    assert board.command("") == []
    assert [line.split(":")[0] for line in board.command("help")] == [
        "help", "name", "profile", "timestamp", "db", "infer", "results",
    ]  # fmt: skip


def test_without_a_model_the_reason_is_the_engines(posix_firmware: Path) -> None:
    with posix_board(posix_firmware) as board:
        assert board.command("profile")[1] == "m-model-[none]"
        (reason,) = board.command("infer 1 0")
        assert re.fullmatch(r"e-\[.{10,}\]", reason)
        assert board.command("results") == [reason]
