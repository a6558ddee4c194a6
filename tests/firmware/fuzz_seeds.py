"""Seeds for the fuzzers: valid conversations. python fuzz_seeds.py MODEL FOLDER."""

import shutil
import struct
import sys
import zlib
from pathlib import Path

from board_line import (
    BATCH,
    HASH,
    HELLO,
    INFO,
    LAYERS,
    LOAD,
    MEMORY,
    PROFILE,
    READ,
    RESET,
    RUN,
    SAMPLES,
    SELF_TEST,
    TENSOR,
    WRITE,
    frame,
)

LINE, REQUESTS = b"\0", b"\1"  # what the rest of an input is: firmware/fuzz/protocol.c
TEXTS = (
    "name%profile%timestamp%help%",
    "db load 4%db 01020304%db print%",
    "db load 64%" + ("db " + "7f" * 32 + "%") * 2 + "infer 2 1%results%",
    "db load 256%" + ("db " + "0000803f" * 4 + "%") * 16 + "infer 1 0%",
    "infer 2 0%results%db%db load%db 0g%db 012%infer 0%infer 1 x%nonsense%",
)
CRC_OF_ZEROS = zlib.crc32(bytes(64))
CONVERSATIONS = (
    ((INFO, struct.pack("<I", 0)), (INFO, struct.pack("<I", 100)), (MEMORY, b"")),
    (
        (LOAD, b""),
        *((TENSOR, bytes([side, index])) for side in (0, 1, 2) for index in (0, 1)),
        (WRITE, struct.pack("<BI", 0, 0) + bytes(64)),
        (RUN, struct.pack("<III", 1, 3, CRC_OF_ZEROS)),
        (READ, struct.pack("<BIH", 0, 0, 10)),
        (SAMPLES, struct.pack("<I", 0)),
    ),
    ((LOAD, b""), (PROFILE, struct.pack("<I", 2)), (LAYERS, b"\0\0"), (LAYERS, b"\3\0")),
    ((LOAD, b""), (SELF_TEST, b""), (HASH, struct.pack("<I", 100)), (MEMORY, b"")),
    ((LOAD, b""), (BATCH, struct.pack("<II", 2, zlib.crc32(bytes(128)))), (RESET, b"")),
    ((RUN, bytes(12)), (READ, bytes(7)), (BATCH, bytes(8)), (0x7F, b"x")),
)


def write(model: Path, folder: Path) -> None:
    """Fill folder/protocol and folder/model."""
    for name in ("protocol", "model"):
        (folder / name).mkdir(parents=True)
    inputs = [LINE + text.encode() for text in TEXTS]
    session = 0x01020304
    for conversation in CONVERSATIONS:
        parts = [struct.pack("<BH", kind, len(data)) + data for kind, data in conversation]
        inputs.append(REQUESTS + b"".join(parts))
        hello = frame(HELLO, 0, 0, struct.pack("<HI", 1, session))
        frames = [frame(kind, at, session, data) for at, (kind, data) in enumerate(conversation, 1)]
        inputs.append(LINE + hello + b"".join(frames))
    for at, data in enumerate(inputs):
        (folder / "protocol" / str(at)).write_bytes(data)
    shutil.copy(model, folder / "model" / "tiny")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
