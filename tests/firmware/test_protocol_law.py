"""Laws of the line: whatever came before, a whole frame is understood."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from board_line import OK, SESSION, WRITE, Line, body_of, frame, posix_board, stuffed, unstuffed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INFO_AT_0 = struct.pack("<I", 0)
# bytes that mean something to the board come often
GARBAGE = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\0", b"\0\0", b"%", b"\xff", b"\1", b"db 00%", b"name%", b"db load 4%"]),
        st.integers(0, 30).map(lambda cut: frame(2, 900, SESSION, INFO_AT_0)[cut:]),
        st.integers(0, 30).map(lambda cut: frame(2, 901, SESSION, INFO_AT_0)[:cut]),
    ),
    max_size=12,
).map(b"".join)


@pytest.fixture(scope="module")
def board(posix_firmware: Path, tiny_espdl: Path) -> Iterator[Line]:
    with posix_board(posix_firmware, "--model", str(tiny_espdl)) as line:
        line.hello()
        yield line


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(garbage=GARBAGE)
def test_a_frame_behind_garbage_is_answered(board: Line, garbage: bytes) -> None:
    board.sequence = (board.sequence + 1) % 800
    board.write(garbage + frame(2, board.sequence, SESSION, INFO_AT_0))
    answer = board.answer()
    while answer.sequence in {900, 901}:
        answer = board.answer()
    assert (answer.kind, answer.status, answer.sequence) == (0x82, OK, board.sequence)
    assert answer.payload[4:5] == b"{"


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=1100))
def test_every_payload_comes_through_or_is_too_long(board: Line, payload: bytes) -> None:
    """A write of whatever bytes is read whole: the answer says where it would have ended."""
    board.sequence = (board.sequence + 1) % 800
    board.write(frame(0x7E, board.sequence, SESSION, payload))
    if len(payload) <= 1024:
        assert board.answer().payload == b"type: there is no such request"
    board.write(frame(WRITE, 801 + board.sequence % 90, SESSION, bytes(5)))
    assert board.answer().sequence == 801 + board.sequence % 90


@given(data=st.binary(max_size=600))
def test_the_tests_own_frames_hold_no_zero_and_come_back(data: bytes) -> None:
    body = body_of(5, 1, 2, data)
    assert 0 not in stuffed(body)
    assert unstuffed(stuffed(body)) == body
