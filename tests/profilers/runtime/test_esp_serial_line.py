"""The line to a board: its frames, and what each thing that befalls it is called."""

import errno
import fcntl
import json
import os
import pty
import socket
import threading
import time
import tty
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_board
import numpy as np
import pytest
from esp_line import (
    BadInput,
    Frame,
    Missing,
    Stalled,
    StartedOver,
    Unplugged,
    WrongAnswer,
    decoded,
    stuffed,
    unstuffed,
)
from fake_board import LAYOUT, FakeBoard, write_espdl
from faulty_line import Fault, FaultyLine
from hypothesis import example, given
from hypothesis import strategies as st

QUICK = {"timeout_s": 0.2, "retries": 2}
INPUTS = {
    "image": np.linspace(-4, 4, 60, dtype=np.float32).reshape(1, 3, 4, 5),
    "state": np.linspace(-9, 9, 6, dtype=np.float32).reshape(1, 6),
}


@pytest.fixture
def attached(tiny: ModuleType, tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """The program with a model loaded from the board at a port."""
    program = tiny.program("profilers/runtime", "esp_serial")
    path = str(write_espdl(tmp_path / "model.espdl", {"edgedeploy": json.dumps(LAYOUT)}))

    def load(port: str, **options: Any) -> ModuleType:
        program.load(path, {"port": port, **QUICK, **options})
        return program

    yield load
    program.close()


@given(st.binary(max_size=1100))
@example(b"\0" * 300)
@example(bytes(range(1, 255)))
@example(bytes(range(1, 255)) * 2)
@example(bytes(range(1, 255)) + b"\0")
@example(bytes(range(1, 256)))
def test_stuffing_has_no_zeros_and_a_way_back(data: bytes) -> None:
    found = stuffed(data)
    assert 0 not in found
    assert len(found) <= len(data) + len(data) // 254 + 1
    assert unstuffed(found) == data


@pytest.mark.parametrize(
    ("plain", "coded"),
    [
        ("", "01"),
        ("00", "0101"),
        ("0000", "010101"),
        ("11220033", "0311220233"),
        ("11000000", "02110101 01"),
    ],
)
def test_stuffing_as_its_inventors_have_it(plain: str, coded: str) -> None:
    assert stuffed(bytes.fromhex(plain)).hex() == coded.replace(" ", "")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert isinstance(unstuffed(data), bytes)
    frame = decoded(data)
    assert frame is None or zlib.crc32(unstuffed(data)[:-4]) >= 0


@given(
    st.builds(
        Frame,
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 65535),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=1024),
    ),
    st.data(),
)
def test_frames_come_back_whole_or_not_at_all(frame: Frame, data: st.DataObject) -> None:
    sent = frame.encoded()
    assert (sent[:2], sent[-1:]) == (b"\0\0", b"\0")
    assert decoded(sent[2:-1]) == frame
    at = data.draw(st.integers(2, len(sent) - 2))
    flipped = bytearray(sent)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    assert all(decoded(part) is None for part in bytes(flipped).split(b"\0"))
    # cut anywhere, the rest is nothing either
    assert decoded(sent[2:at]) is None


def test_a_frame_is_what_the_protocol_says() -> None:
    body = bytes.fromhex("0100 3412 00000000 0100 efbeadde")
    sent = Frame(1, 0, 0x1234, 0, bytes.fromhex("0100efbeadde")).encoded()
    assert unstuffed(sent[2:-1]) == body + zlib.crc32(body).to_bytes(4, "little")


def test_what_a_board_says_before_hello_is_dropped(attached: Callable[..., ModuleType]) -> None:
    noise = b"ESP-ROM:esp32s3\r\n\0half\0\0\x05\xff" + Frame(0x81, 0, 7, 9, b"old").encoded()
    with FakeBoard(noise=noise + b"m-ready\r\n" * 2000) as board:
        program = attached(board.port)
        assert program.run(INPUTS)["picture"].shape == (1, 3, 4, 5)
        assert program.state["board"].link.damaged > 0


def test_busy_answers_make_the_host_wait(attached: Callable[..., ModuleType]) -> None:
    with FakeBoard(busy_s=0.15) as board:
        program = attached(board.port, retries=0)
        start = time.monotonic()
        assert program.timed(INPUTS, 0, 2)["cycles"] == [240_017] * 2
        assert time.monotonic() - start > 0.4
        assert board.asked.count("run") == 1


def test_a_lost_answer_is_asked_for_again_and_nothing_runs_twice(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard() as board:
        program = attached(board.port)
        with FaultyLine(board.port) as line:
            program = attached(line.port)
            before = board.runs
            board.stalls["run"] = 1
            program.timed(INPUTS, 0, 3)
            assert board.asked.count("run") == 2
            assert board.runs == before + 1


@pytest.mark.parametrize("request_name", ["run", "read", "samples", "write", "load"])
def test_a_board_that_starts_over_once_goes_on(
    attached: Callable[..., ModuleType], request_name: str
) -> None:
    with FakeBoard(resets={request_name: 1}) as board:
        program = attached(board.port)
        with FakeBoard() as sound:
            wanted = attached(sound.port).run(INPUTS)
        program = attached(board.port)
        found = program.run(INPUTS)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        answer = program.timed(INPUTS, 2, 10)
        assert answer["cycles"] == [240_017] * 10
        said = [note for note in answer["notes"] if "was lost 1 times" in note]
        assert len(said) == (request_name == "samples")


def test_a_board_that_starts_over_while_it_comes_back_goes_on(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard() as board:
        program = attached(board.port)
        wanted = program.run(INPUTS)
        board.resets = {"run": 1, "tensor": 1}
        found = program.run(INPUTS)
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
        assert board.asked.count("load") == 3


def test_a_board_that_dies_in_a_later_run_leaves_what_was_timed(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard() as board:
        program = attached(board.port)
        done = board.on_run

        def dies(payload: bytes) -> tuple[int, bytes]:
            if board.runs == 2:
                board.stalls["run"] = board.stalls["hello"] = 999
            return done(payload)

        board.on_run = dies  # type: ignore[method-assign]
        answer = program.timed(INPUTS, 0, 30)
    assert answer["cycles"] == [fake_board.TICKS] * 24
    assert answer["latency_s"] == [0.001] * 24
    assert "24 of 30 inferences were timed: the board gave no answer to run" in answer["notes"][0]


def test_a_board_that_dies_in_the_first_run_is_an_error(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard(stalls={"run": 99}) as board:
        program = attached(board.port)
        with pytest.raises(Stalled, match=r"no answer to run in 3 tries of 0.2 s") as caught:
            program.timed(INPUTS, 0, 30)
        assert "Reset the board" in caught.value.hint


def test_a_line_that_garbles_is_named(attached: Callable[..., ModuleType]) -> None:
    faults = [Fault(at, "flip", 3) for at in range(5, 60_000, 11)]
    with FakeBoard() as board, FaultyLine(board.port, to_host=faults) as line:
        with pytest.raises(Stalled, match=r"but [0-9]+ damaged frames") as caught:
            attached(line.port)
        assert "baud" in caught.value.hint


@pytest.mark.parametrize(("version", "said"), [(0, "refuses protocol version 1"), (2, "version 2")])
def test_another_protocol_version_is_named(
    attached: Callable[..., ModuleType], version: int, said: str
) -> None:
    with FakeBoard(version=version) as board, pytest.raises(WrongAnswer, match=said) as caught:
        attached(board.port)
    assert "flash it" in caught.value.hint


def test_firmware_that_knows_text_only_is_named(attached: Callable[..., ModuleType]) -> None:
    with FakeBoard(text_only=True) as board, pytest.raises(WrongAnswer, match="older than this"):
        attached(board.port)


def test_a_cable_pulled_and_put_back_is_survived(attached: Callable[..., ModuleType]) -> None:
    with FakeBoard(hangs_up={"run": 1, "read": 1}) as board:
        program = attached(board.port)
        assert program.run(INPUTS)["next"].shape == (2, 3)
        assert program.facts()["sessions_lost"] == 2


@pytest.mark.parametrize("by", ["tcp", "pty"])
def test_a_cable_pulled_for_good_is_named(attached: Callable[..., ModuleType], by: Any) -> None:
    with FakeBoard(busy_s=0.1) as board, FaultyLine(board.port, by=by) as line:
        program = attached(line.port)
        threading.Timer(0.15, line.unplug).start()
        start = time.monotonic()
        with pytest.raises((Unplugged, Stalled)) as caught:
            program.run(INPUTS)
        assert time.monotonic() - start < 5
        assert caught.value.hint


def test_a_pty_serves_as_a_line(attached: Callable[..., ModuleType]) -> None:
    with FakeBoard() as board, FaultyLine(board.port, by="pty") as line:
        program = attached(line.port)
        assert program.timed(INPUTS, 0, 9)["cycles"] == [240_017] * 9


def test_a_missing_port_is_named_with_those_like_it(
    attached: Callable[..., ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "ttyUSB1").touch()
    with pytest.raises(Missing, match="there is no port") as caught:
        attached(str(tmp_path / "ttyUSB0"))
    assert f"Did you mean {tmp_path / 'ttyUSB1'}" in caught.value.hint
    with pytest.raises(Missing, match="there is no port") as caught:
        attached("/nowhere/at/all")
    assert "Did you mean" not in caught.value.hint
    with pytest.raises(Missing, match="cannot be opened"):
        attached(str(tmp_path / "ttyUSB1"))
    with pytest.raises(Missing, match=r"nothing answers at socket://127\.0\.0\.1:1"):
        attached("socket://127.0.0.1:1")


@pytest.mark.parametrize("port", ["rfc2217://pi:1", "socket://pi", "socket://127.0.0.1:70000"])
def test_a_port_that_none_can_be_is_named(attached: Callable[..., ModuleType], port: str) -> None:
    with pytest.raises(BadInput, match=f"port '{port}' with baud 115200 is not pos") as caught:
        attached(port)
    assert "socket://host:port" in caught.value.hint


def test_an_address_of_version_6_stands_in_brackets(
    attached: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def connect(address: tuple[str, int], timeout_s: float) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Missing, match="nothing answers at"):
        attached("socket://[::1]:5000")
    assert asked == [("::1", 5000)]


def test_a_port_without_permission_names_the_group(
    attached: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ttyACM0"
    path.touch()

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refused)
    with pytest.raises(Missing, match=f"no permission to open {path}") as caught:
        attached(str(path))
    assert path.group() in str(caught.value)
    assert f"usermod --append --groups {path.group()} $USER" in caught.value.hint


def test_a_port_in_use_is_named(attached: Callable[..., ModuleType]) -> None:
    with ExitStack() as opened:
        master, slave = pty.openpty()
        opened.callback(os.close, master)
        opened.callback(os.close, slave)
        tty.setraw(slave)
        fcntl.flock(slave, fcntl.LOCK_EX)
        with pytest.raises(Missing, match="in use by another program") as caught:
            attached(os.ttyname(slave))
        assert "serial monitor" in caught.value.hint


def test_a_board_without_end_of_restarts_says_how_often(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard(resets={"write": 99}) as board:
        program = attached(board.port)
        with pytest.raises(StartedOver, match="3 times in a row while running"):
            program.run(INPUTS)


def test_a_board_that_starts_over_at_each_run_is_named(
    attached: Callable[..., ModuleType],
) -> None:
    with FakeBoard(resets={"run": 99}) as board:
        program = attached(board.port)
        with pytest.raises(StartedOver, match="3 times in a row while running") as caught:
            program.run(INPUTS)
        assert 'it printed "Guru Meditation Error: panic\'ed"' in str(caught.value)
        assert "supply" in caught.value.hint
        assert program.facts()["sessions_lost"] == 3
