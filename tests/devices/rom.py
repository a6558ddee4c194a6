"""A chip's boot loader on a TCP port, with a flash in memory: enough for the real esptool to flash.

SLIP frames `00 command u16-size u32-checksum data`, answered by `01 command u16-size u32-value
data status`. The chip is an ESP32-S3 with 8 MB. After `crash_after` blocks the line is cut, once.
"""

import hashlib
import socket
import struct
import threading
import zlib
from typing import Self

CHIP_ID = 9
FLASH_ID = 0x17_40_C8
SPI_W0 = 0x6000_2058
FLASH_BYTES = 8 << 20
SYNC, GET_SECURITY_INFO, READ_REG, MEM_END, MD5 = 0x08, 0x14, 0x0A, 0x06, 0x13
WRITE_BEGIN, WRITE_DATA = 0x02, 0x03
DEFLATE_BEGIN, DEFLATE_DATA = 0x10, 0x11


def escaped(data: bytes) -> bytes:
    return b"\xc0" + data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc") + b"\xc0"


class Rom:
    """Serves one client at a time until closed; `commands` are those it was given."""

    def __init__(self, *, chip_id: int = CHIP_ID, crash_after: int = -1) -> None:
        self.flash = bytearray(b"\xff" * FLASH_BYTES)
        self.chip_id = chip_id
        self.crash_after = crash_after
        self.commands: list[int] = []
        self.writes: list[tuple[int, int]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client:
                self._stub = False
                self._client(client)

    def _client(self, client: socket.socket) -> None:
        rest = b""
        while True:
            try:
                block = client.recv(1 << 16)
            except ConnectionError:
                return
            if not block:
                return
            rest += block
            while rest.count(b"\xc0") >= 2:
                _, frame, rest = rest.split(b"\xc0", 2)
                if frame:
                    data = frame.replace(b"\xdb\xdc", b"\xc0").replace(b"\xdb\xdd", b"\xdb")
                    answer = self._answer(data)
                    if answer is None:
                        return
                    client.sendall(answer)
                else:
                    rest = b"\xc0" + rest

    def _answer(self, frame: bytes) -> bytes | None:
        _, command, size, _ = struct.unpack_from("<BBHI", frame)
        data = frame[8 : 8 + size]
        self.commands.append(command)
        value, said, behind = 0, b"", b""
        if command == SYNC:
            value = 0 if self._stub else 0x2012_0707
        elif command == GET_SECURITY_INFO:
            said = struct.pack("<IBBBBBBBBII", 0, 0, 0, 0, 0, 0, 0, 0, 0, self.chip_id, 0)
        elif command == READ_REG and struct.unpack("<I", data) == (SPI_W0,):
            value = FLASH_ID
        elif command == MEM_END:
            self._stub = True
            behind = escaped(b"OHAI")
        elif command == MD5:
            address, count = struct.unpack_from("<II", data)
            digest = hashlib.md5(self.flash[address : address + count])
            said = digest.digest() if self._stub else digest.hexdigest().encode()
        elif command in (WRITE_BEGIN, DEFLATE_BEGIN):
            _, _, _, self._at = struct.unpack_from("<IIII", data)
            self._inflate = zlib.decompressobj() if command == DEFLATE_BEGIN else None
        elif command in (WRITE_DATA, DEFLATE_DATA):
            if len(self.writes) == self.crash_after:
                self.crash_after = -1
                return None
            count = struct.unpack_from("<I", data)[0]
            plain = data[16 : 16 + count]
            if self._inflate:
                plain = self._inflate.decompress(plain)
            self.flash[self._at : self._at + len(plain)] = plain
            self.writes.append((self._at, len(plain)))
            self._at += len(plain)
        status = bytes(2 if self._stub and command != MEM_END else 4)
        body = said + status
        answer = escaped(struct.pack("<BBHI", 1, command, len(body), value) + body)
        return answer * (8 if command == SYNC else 1) + behind
