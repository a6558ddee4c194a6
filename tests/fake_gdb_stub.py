"""A gdb remote stub of Python over some memory, with faults to order."""

import socket
import threading
from typing import Any, Self

ADDRESS = 0x3C00_0000


class FakeStub:
    """A gdb stub over a board's memory, which begins at `start`; a context manager.

    `damages` is the numbers of packets whose reply has a wrong checksum, `mute` knows no answer,
    `forgets` loses what so many packets write, `chatty` reports a stop before its replies.
    """

    def __init__(self, memory: Any, start: int = ADDRESS, **faults: Any) -> None:
        self.memory, self.start, self.faults = memory, start, faults
        self.forgets = faults.get("forgets", 0)
        self.packets: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line:
                self._converse(line)

    def _converse(self, line: socket.socket) -> None:
        rest, last = b"", b""
        while data := line.recv(4096):
            rest += data
            while rest:
                if rest[:1] == b"-":
                    line.sendall(last)
                if rest[:1] != b"$":
                    rest = rest[1:]
                    continue
                packet, found, check = rest[1:].partition(b"#")
                if not found or len(check) < 2:
                    break
                rest = check[2:]
                assert int(check[:2], 16) == sum(packet) % 256
                self.packets.append(packet)
                if self.faults.get("mute"):
                    continue
                reply = self._reply(packet)
                last = b"+$" + reply + b"#%02x" % (sum(reply) % 256)
                wrong = last[:-2] + b"zz"
                damaged = len(self.packets) in self.faults.get("damages", ())
                stop = b"$T05thread:01;#07" if self.faults.get("chatty") else b""
                line.sendall(stop + (wrong if damaged else last))

    def _reply(self, packet: bytes) -> bytes:
        if packet == b"qSupported":
            return b"PacketSize=80;qXfer:features:read+"
        if packet in {b"?", b"D"}:
            return b"OK" if packet == b"D" else b"T02thread:01;"
        place, _, digits = packet[1:].partition(b":")
        address, size = (int(number, 16) for number in place.split(b","))
        at = address - self.start
        if not 0 <= at <= len(self.memory) - size:
            return b"E14"
        if packet[:1] == b"m":
            return bytes(self.memory[at : at + size]).hex().encode()
        if self.forgets:
            self.forgets -= 1
        else:
            self.memory[at : at + size] = bytes.fromhex(digits.decode())
        return b"OK"
