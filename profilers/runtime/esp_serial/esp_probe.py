"""A board's memory through a gdb remote stub: an emulator's, or a debug probe's server."""

from __future__ import annotations

import time

from esp_line import Line, Missing, Stalled, expect


class Probe:
    """The memory of a board through a gdb remote stub; it stands still inside the `with`."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s

    def __enter__(self) -> Probe:
        self._rest = b""
        hint = "Start the gdb stub (of the emulator or the debug probe), or drop option probe."
        try:
            self._line = Line(f"socket://{self._address}", 0, self._timeout_s)
        except (OSError, ValueError) as error:
            msg = f"no gdb stub answers at {self._address}: {error}"
            raise Missing(msg, hint) from error
        try:
            said = self._ask("qSupported").split(";")
            sizes = [int(part[11:], 16) for part in said if part.startswith("PacketSize=")]
            self._block = max(16, (min([4096, *sizes]) - 32) // 2)
            self._ask("?")
        except BaseException:
            self._line.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("D")  # else the board would stand still for ever
        finally:
            self._line.close()

    def write(self, address: int, data: bytes) -> None:
        """Bring bytes to an address of the board."""
        for at in range(0, len(data), self._block):
            part = data[at : at + self._block]
            reply = self._ask(f"M{address + at:x},{len(part):x}:{part.hex()}")
            msg = f"the gdb stub wrote nothing to {address + at:#x}: {reply!r}"
            expect(reply == "OK", msg, "Is samples_address memory of this board?")

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address of the board."""
        found = ""
        for at in range(0, size, self._block):
            want = min(self._block, size - at)
            reply = self._ask(f"m{address + at:x},{want:x}")
            msg = f"the gdb stub read nothing at {address + at:#x}: {reply[:20]!r}"
            expect(len(reply) == 2 * want, msg, "Is samples_address memory of this board?")
            found += reply
        return bytes.fromhex(found)

    def _ask(self, request: str) -> str:
        packet = f"${request}#{sum(request.encode()) & 0xFF:02x}".encode()
        for _ in range(3):
            self._line.write(packet)
            deadline = time.monotonic() + self._timeout_s
            while time.monotonic() < deadline:
                _, begun, rest = self._rest.partition(b"$")
                reply, ended, check = rest.partition(b"#")
                if begun and ended and len(check) >= 2:
                    self._rest = check[2:]
                    right = check[:2].lower() == b"%02x" % (sum(reply) & 0xFF)
                    self._line.write(b"+" if right else b"-")
                    if right and (request == "?" or not reply.startswith((b"T", b"S"))):
                        return reply.decode("latin-1")
                else:
                    self._rest += self._line.read()
            # a stub that lets the board run at first does not speak before it is stopped
            self._line.write(b"\x03")
        msg = f"the gdb stub at {self._address} gave no whole reply to {request[:20]}"
        raise Stalled(msg, "Restart the emulator or the debug probe's server.")
