"""A way to a TCP port that can be cut, stalled or slowed down; what went each way is counted."""

import contextlib
import socket
import threading
import time
from typing import Self


class RoughLink:
    """Passes bytes from a port of its own to another; a context manager.

    `rate` is bytes a second each way, None for all there are.
    """

    def __init__(self, port: int, *, rate: float | None = None) -> None:
        self.rate = rate
        self.sent = self.received = 0
        self.stalled = threading.Event()
        self._cut_at: int | None = None
        self._to = port
        self._over = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End every connection at once."""
        for each in self._open[:]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int) -> None:
        """Cut once so many more bytes have gone, both ways together."""
        self._cut_at = self.sent + self.received + count

    def stall(self) -> None:
        """Pass nothing any more, and do not say so."""
        self.stalled.set()

    def heal(self) -> None:
        """Pass what comes from now on; what was stalled is gone for good."""
        self.cut()
        self.stalled.clear()

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            for source, sink, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pass, args=(source, sink, up), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        block = 1 << 16 if self.rate is None else max(1, int(self.rate / 50))
        with contextlib.suppress(OSError):
            while data := source.recv(block):
                while self.stalled.is_set():
                    time.sleep(0.02)
                if self.rate is not None:
                    time.sleep(len(data) / self.rate)
                self.sent += len(data) if up else 0
                self.received += 0 if up else len(data)
                if self._cut_at is not None and self.sent + self.received >= self._cut_at:
                    self._cut_at = None
                    self.cut()
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
