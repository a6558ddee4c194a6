"""A line between host and board that drops, repeats, flips, delays and cuts, by a seed."""

import contextlib
import errno
import os
import pty
import random
import select
import socket
import threading
import tty
from collections.abc import Iterator
from typing import Literal, NamedTuple, Self

Kind = Literal["drop", "duplicate", "flip", "delay", "cut"]
KINDS: tuple[Kind, ...] = ("drop", "duplicate", "flip", "delay")
POLL_S = 0.02
BLOCK = 4096


class Fault(NamedTuple):
    """What happens to the byte at a position of one direction's stream, counted from the start.

    `amount` is bytes to drop or repeat, a bit to flip, or milliseconds to wait; a `cut` ends the
    line, and with an amount of 1 it can be opened again.
    """

    at: int
    kind: Kind
    amount: int = 1


def schedule(seed: str, mean_gap: float, *, delay_ms: int = 60, cuts: float = 0.0) -> list[Fault]:
    """Faults of one direction in its first 64 KiB, `mean_gap` bytes apart on average.

    `cuts` is the share of faults that end the line.
    """
    draw = random.Random(seed)
    at, faults = 0, []
    while (at := at + 1 + int(draw.expovariate(1 / mean_gap))) < 1 << 16:
        kind: Kind = "cut" if draw.random() < cuts else draw.choice(KINDS)
        amounts = {"flip": 7, "delay": delay_ms, "cut": 1}
        least = 0 if kind in {"flip", "cut"} else 1
        faults.append(Fault(at, kind, draw.randint(least, amounts.get(kind, 12))))
    return faults


class FaultyLine:
    """Passes bytes between a port of its own and a board's; a context manager.

    `board` is a pty's path or "socket://host:port"; `port` is one of the kind that `by` names.
    """

    def __init__(
        self,
        board: str,
        *,
        to_board: list[Fault] | None = None,
        to_host: list[Fault] | None = None,
        by: Literal["tcp", "pty"] = "tcp",
    ) -> None:
        self._board = board
        self._faults = {True: iter(to_board or []), False: iter(to_host or [])}
        self._next = {side: next(faults, None) for side, faults in self._faults.items()}
        self._passed = {True: 0, False: 0}
        self.happened: list[Fault] = []
        self._ended, self._down = threading.Event(), threading.Event()
        self._server: socket.socket | None = None
        self._host = -1
        if by == "tcp":
            self._server = socket.create_server(("127.0.0.1", 0))
            self.port = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        else:
            self._host, slave = pty.openpty()
            tty.setraw(slave)
            self.port, self._slave = os.ttyname(slave), slave
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._server is not None:
            self._server.close()
        else:
            os.close(self._slave)

    def unplug(self) -> None:
        """End the line for good, as a hand on the cable does."""
        self._ended.set()

    def _serve(self) -> None:
        for host in self._hosts():
            self._down.clear()
            with contextlib.ExitStack() as opened:
                opened.callback(os.close, host)
                board = _opened(self._board)
                opened.callback(os.close, board)
                ends = [(host, board, True), (board, host, False)]
                pumps = [threading.Thread(target=self._pump, args=each) for each in ends]
                for pump in pumps:
                    pump.start()
                for pump in pumps:
                    pump.join()

    def _hosts(self) -> Iterator[int]:
        if self._server is None:
            yield self._host
            return
        while not self._ended.is_set():
            if select.select([self._server], [], [], POLL_S)[0]:
                connection, _ = self._server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield connection.detach()
        self._server.close()

    def _pump(self, source: int, sink: int, side: bool) -> None:
        try:
            while not (self._down.is_set() or self._ended.is_set()):
                if not select.select([source], [], [], POLL_S)[0]:
                    continue
                data = os.read(source, BLOCK)
                if not data:
                    break
                for part in self._damaged(data, side):
                    _send(sink, part)
        except OSError as error:
            if error.errno not in {errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.EBADF}:
                raise
        finally:
            self._down.set()

    def _damaged(self, data: bytes, side: bool) -> Iterator[bytes]:
        """What goes on of these bytes, in parts with the delays between them."""
        while data and not self._down.is_set():
            fault, place = self._next[side], self._passed[side]
            ahead = len(data) if fault is None else min(len(data), max(0, fault.at - place))
            if ahead:
                yield data[:ahead]
            data = data[ahead:]
            self._passed[side] += ahead
            if fault is None or not data:
                continue
            self._next[side] = next(self._faults[side], None)
            self.happened.append(fault)
            if fault.kind == "drop":
                self._passed[side] += min(fault.amount, len(data))
                data = data[fault.amount :]
            elif fault.kind == "duplicate":
                yield data[: fault.amount]
            elif fault.kind == "flip":
                data = bytes([data[0] ^ 1 << fault.amount]) + data[1:]
            elif fault.kind == "delay":
                self._down.wait(fault.amount / 1e3)
            else:
                if not fault.amount:
                    self._ended.set()
                self._down.set()


def _opened(board: str) -> int:
    if board.startswith("socket://"):
        host, _, number = board.removeprefix("socket://").rpartition(":")
        connection = socket.create_connection((host, int(number)), 5)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection.detach()
    return os.open(board, os.O_RDWR | os.O_NOCTTY)


def _send(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]
