"""Frames: requests and answers, and what a line may do to them."""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_line import (
    BAD_REQUEST,
    BATCH,
    CHECKSUM,
    ENGINE,
    HASH,
    HELLO,
    INFO,
    LAYERS,
    LOAD,
    MEMORY,
    NO_MODEL,
    OK,
    PROFILE,
    READ,
    RESET,
    RUN,
    SAMPLES,
    SELF_TEST,
    SESSION,
    TENSOR,
    WRITE,
    Line,
    body_of,
    frame,
    posix_board,
    stuffed,
)

IMAGE = bytes((7 * i) & 255 for i in range(64))


@pytest.fixture
def board(posix_firmware: Path, tiny_espdl: Path, tmp_path: Path) -> Iterator[Line]:
    samples = tmp_path / "samples"
    samples.write_bytes(bytes(4096))
    options = ("--model", str(tiny_espdl), "--samples", str(samples))
    with posix_board(posix_firmware, *options) as line:
        line.hello()
        yield line


def ready(board: Line) -> bytes:
    """Load the model and write the image; the image's scores."""
    assert board.load() == (64, 10)
    board.write_input(IMAGE)
    answer = board.run(IMAGE)
    assert (answer.status, answer.numbers("I")) == (OK, (1,))
    scores = board.ask(READ, struct.pack("<BIH", 0, 0, 10)).payload
    assert zlib.crc32(scores) == answer.numbers("II")[1]
    return scores


def test_hello_and_info(board: Line) -> None:
    answer = board.hello()
    assert answer.numbers("HH") == (1, 1024)
    assert answer.payload[4:].decode().startswith("edgedeploy ")
    assert answer.session == 0
    (total,) = board.ask(INFO, struct.pack("<I", 0)).numbers("I")
    parts = [board.ask(INFO, struct.pack("<I", at)).payload[4:] for at in (0, total - 5, total)]
    info = json.loads(parts[0])
    assert len(parts[0]) == total
    assert parts[1:] == [parts[0][-5:], b""]
    assert sorted(info) == [
        "board", "clock_hz", "compiler", "cpu", "engine", "firmware", "model_extent",
        "sample_capacity", "samples_address", "samples_bytes", "tick_unit", "ticks_per_count",
        "virtual",
    ]  # fmt: skip
    # a process of a busy host: nothing of it may look like a board's time
    assert (info["board"], info["tick_unit"]) == ("posix process", "nanoseconds")
    assert (info["virtual"], info["clock_hz"]) == (True, 0)
    assert (info["model_extent"], info["samples_bytes"]) == (8 << 20, 4096)
    assert info["sample_capacity"] >= 1000


def test_model_and_tensors(board: Line, tiny_espdl: Path) -> None:
    loaded = board.ask(LOAD)
    assert loaded.numbers("HHH") == (1, 1, 6)
    assert loaded.numbers("HHHI")[3] <= tiny_espdl.stat().st_size
    image = board.ask(TENSOR, b"\0\0").payload
    assert struct.unpack_from("<BbB4iI", image) == (8, -5, 4, 1, 8, 8, 1, 64)
    assert image[23:] == b"image"
    scores = board.ask(TENSOR, b"\1\0").payload
    assert struct.unpack_from("<BbB2iI", scores)[2:] == (2, 1, 10, 10)
    assert scores[15:] == b"scores"
    assert board.ask(TENSOR, b"\0\1").status == BAD_REQUEST
    assert board.ask(TENSOR, b"\2\0").status == BAD_REQUEST


def test_run_read_and_samples(board: Line) -> None:
    scores = ready(board)
    assert board.run(IMAGE, 100, 5).numbers("II") == (100, zlib.crc32(scores))
    first = board.ask(SAMPLES, struct.pack("<I", 0))
    rest = board.ask(SAMPLES, struct.pack("<I", 63))
    assert first.numbers("I") == rest.numbers("I") == (100,)
    assert [len(part.payload) for part in (first, rest)] == [4 + 63 * 16, 4 + 37 * 16]
    ticks = [*struct.iter_unpack("<QQ", first.payload[4:] + rest.payload[4:])]
    # a virtual board has ticks and no time
    assert all(count > 0 and us == 0 for count, us in ticks)
    assert board.ask(SAMPLES, struct.pack("<I", 200)).payload == struct.pack("<I", 100)
    part = board.ask(READ, struct.pack("<BIH", 0, 3, 4)).payload
    assert part == scores[3:7]


def test_inputs_are_checked_before_a_run(board: Line) -> None:
    ready(board)
    assert board.run(IMAGE[::-1]).status == CHECKSUM
    for count in (0, 1025):
        assert board.run(IMAGE, count).status == BAD_REQUEST


def test_profile_and_layers(board: Line) -> None:
    ready(board)
    assert board.ask(LAYERS, b"\0\0").payload == b"\0\0"
    assert board.ask(PROFILE, struct.pack("<I", 3)).numbers("H") == (6,)
    entries = board.ask(LAYERS, b"\0\0").payload
    found = []
    at = 2
    while at < len(entries):
        (ticks,) = struct.unpack_from("<Q", entries, at)
        op = entries[at + 9 : at + 9 + entries[at + 8]]
        at += 9 + len(op)
        (count,) = struct.unpack_from("<H", entries, at)
        found.append((op.decode(), entries[at + 2 : at + 2 + count].decode()))
        at += 2 + count
        assert ticks > 0
    ops = [op for op, _ in found]
    assert ops == ["Conv", "MaxPool", "Conv", "Conv", "GlobalAveragePool", "Gemm"]
    assert all(name.startswith("/") for _, name in found)
    assert board.ask(LAYERS, b"\5\0").payload[:2] == b"\6\0"
    assert board.ask(PROFILE, struct.pack("<I", 0)).status == BAD_REQUEST


def test_self_test_memory_and_hash(board: Line, tiny_espdl: Path) -> None:
    ready(board)
    assert board.ask(SELF_TEST).numbers("HHIIIii") == (1, 0, 10, 0, 0, 0, 0)
    memory = board.ask(MEMORY).numbers("12I")
    assert len(board.ask(MEMORY).payload) == 48
    assert memory[0] <= tiny_espdl.stat().st_size
    assert memory[1] > 500  # 602 weights of 8 bits
    assert memory[6:8] == (320 << 10, 8 << 20)
    assert memory[10] > 0
    data = tiny_espdl.read_bytes()
    for count in (0, 1, 55, 56, 63, 64, 65, 1000, len(data)):
        digest = board.ask(HASH, struct.pack("<I", count)).payload
        assert digest == hashlib.sha256(data[:count]).digest()
    assert board.ask(HASH, struct.pack("<I", (8 << 20) + 1)).status == BAD_REQUEST
    erased = data + b"\xff" * ((8 << 20) - len(data))
    assert board.ask(HASH, struct.pack("<I", 8 << 20)).payload == hashlib.sha256(erased).digest()
    assert board.busy == [(step + 1) << 20 for step in range(8)]


def test_batch_is_the_same_as_one_by_one(board: Line, tmp_path: Path) -> None:
    ready(board)
    images = [bytes((i * k + 3) & 255 for i in range(64)) for k in range(1, 6)]
    singles = []
    for image in images:
        board.write_input(image)
        assert board.run(image).status == OK
        singles.append(board.ask(READ, struct.pack("<BIH", 0, 0, 10)).payload)
    packed = b"".join(images)
    with (tmp_path / "samples").open("r+b") as samples:
        samples.write(packed)
    assert board.ask(BATCH, struct.pack("<II", 5, 1)).status == CHECKSUM
    answer = board.ask(BATCH, struct.pack("<II", 5, zlib.crc32(packed)))
    offset, count, crc = answer.numbers("III")
    results = (tmp_path / "samples").read_bytes()[offset : offset + count]
    assert (offset, count, crc) == (320, 50, zlib.crc32(results))
    assert results == b"".join(singles)
    for too_many in (60, 1 << 31, (1 << 32) - 1):
        assert board.ask(BATCH, struct.pack("<II", too_many, 0)).status == BAD_REQUEST


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (0x7F, b""), (0, b""), (INFO, b""), (INFO, struct.pack("<I", 1 << 31)), (LOAD, b"\0"),
        (TENSOR, b"\0"), (WRITE, b"\0\0\0\0"), (WRITE, struct.pack("<BI", 1, 0)),
        (WRITE, struct.pack("<BI", 0, 65)), (WRITE, struct.pack("<BI", 0, 63) + b"ab"),
        (WRITE, struct.pack("<BI", 0, 0xFFFFFFFF) + b"ab"), (RUN, b"\0" * 11),
        (READ, struct.pack("<BIH", 0, 0, 11)), (READ, struct.pack("<BIH", 0, 11, 0)),
        (READ, struct.pack("<BIH", 1, 0, 1)), (READ, struct.pack("<BIH", 0, 0xFFFFFFFF, 1)),
        (SAMPLES, b""), (PROFILE, b""), (LAYERS, b""), (MEMORY, b"\0"), (HASH, b""),
        (SELF_TEST, b"\0"), (BATCH, b"\0" * 7),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_a_reason(board: Line, kind: int, payload: bytes) -> None:
    ready(board)
    answer = board.ask(kind, payload)
    assert answer.status == BAD_REQUEST
    assert len(answer.payload) > 5
    assert answer.payload.isascii()
    assert board.run(IMAGE).status == OK


def test_without_a_model(posix_firmware: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.espdl"
    damaged.write_bytes(b"EDL2" + bytes(60))
    for options in ((), ("--model", str(damaged))):
        with posix_board(posix_firmware, *options) as board:
            board.hello()
            for kind in (TENSOR, RUN, READ, PROFILE, SELF_TEST, BATCH):
                size = {TENSOR: 2, RUN: 12, READ: 7, PROFILE: 4, SELF_TEST: 0, BATCH: 8}[kind]
                assert board.ask(kind, bytes(size)).status == NO_MODEL
            answer = board.ask(LOAD)
            assert answer.status == ENGINE
            assert len(answer.payload) > 10
            assert board.ask(MEMORY).numbers("6I") == (0,) * 6


def test_a_repeated_request_is_answered_again_and_done_once(board: Line) -> None:
    ready(board)
    request = frame(RUN, 500, SESSION, struct.pack("<III", 0, 3, zlib.crc32(IMAGE)))
    board.write(request)
    first = board.answer()
    before = board.ask(SAMPLES, struct.pack("<I", 0)).payload
    # the last answer is now another one's: asked again, the run is done again
    board.write(request)
    assert board.answer() == first
    after = board.ask(SAMPLES, struct.pack("<I", 0)).payload
    assert after != before
    board.write(request)
    board.answer()
    board.write(request + request)
    assert [board.answer(), board.answer()] == [first, first]
    board.quiet()


def test_a_request_of_another_session_is_refused(board: Line) -> None:
    for session in (0, SESSION + 1):
        board.write(frame(MEMORY, 9, session))
        answer = board.answer()
        assert (answer.status, answer.payload) == (BAD_REQUEST, b"session")
        assert (answer.sequence, answer.session) == (9, session)
    assert board.ask(MEMORY).status == OK


def test_hello_changes_the_session_at_once_and_forgets_its_answers(board: Line) -> None:
    board.write(frame(MEMORY, 77, SESSION))
    kept = board.answer()
    board.write(frame(HELLO, 77, 0, struct.pack("<HI", 1, SESSION)))
    assert board.answer().status == OK
    board.write(frame(MEMORY, 77, SESSION))
    assert board.answer() == kept
    board.hello(5)
    board.write(frame(HASH, 77, 5, struct.pack("<I", 0)))
    assert board.answer().payload == hashlib.sha256(b"").digest()
    board.write(frame(MEMORY, 78, SESSION))
    assert board.answer().payload == b"session"


@pytest.mark.parametrize(
    "payload",
    [b"", struct.pack("<HI", 2, 1), struct.pack("<HI", 1, 0), struct.pack("<HIB", 1, 1, 0)],
)
def test_a_wrong_hello_leaves_the_session(board: Line, payload: bytes) -> None:
    board.write(frame(HELLO, 1, 0, payload))
    assert board.answer().status == BAD_REQUEST
    assert board.ask(MEMORY).status == OK


def test_damaged_and_foreign_frames_are_dropped(board: Line) -> None:
    good = body_of(MEMORY, 4, SESSION, b"")
    for at in range(len(good)):
        board.write(b"\0\0" + stuffed(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) + b"\0")
        board.write(b"\0\0" + stuffed(good[:at]) + b"\0")
    board.write(b"\0\0" + stuffed(body_of(MEMORY + 0x80, 4, SESSION, b"")) + b"\0")
    board.write(b"\0\0" + stuffed(body_of(MEMORY, 4, SESSION, b"", status=1)) + b"\0")
    board.write(b"\0\0" + stuffed(body_of(MEMORY, 4, SESSION, bytes(1025))) + b"\0")
    board.write(b"\0\0" + b"\xff" * 100_000 + b"\0")
    board.write(b"\0\0\xff\0")
    board.quiet()
    assert board.ask(MEMORY).status == OK


def test_largest_payload_and_zeros_around_a_frame(board: Line) -> None:
    ready(board)
    for zeros in (b"\0", b"\0\0\0\0\0"):
        body = body_of(WRITE, 900 + len(zeros), SESSION, bytes(1024))
        board.write(zeros + stuffed(body) + b"\0")
        answer = board.answer()
        assert (answer.status, answer.payload) == (BAD_REQUEST, b"offset: beyond the input's end")


def test_a_half_frame_and_a_half_command_end_at_the_next_zero(board: Line) -> None:
    board.write(frame(MEMORY, 30, SESSION)[:-6])
    board.write(frame(MEMORY, 31, SESSION))
    assert board.answer().sequence == 31
    board.write(b"db load 1")
    board.write(frame(MEMORY, 32, SESSION))
    assert board.answer().sequence == 32
    assert board.command("name") == ["m-name-dut-[edgedeploy]"]


def test_reset_answers_and_then_starts_over(board: Line) -> None:
    assert board.ask(RESET).status == OK
    assert b"m-init-done" in board.until(b"m-ready\r\n")
    assert board.ask(MEMORY).payload == b"session"
    board.hello()
    assert board.ask(TENSOR, b"\0\0").status == NO_MODEL
