"""What a built firmware puts where in the flash: the builder's list and its partition table."""

import json
import struct
from pathlib import Path
from typing import Any

from edgedeploy.devices.flash import Part
from edgedeploy.errors import InputError
from edgedeploy.records import Record
from edgedeploy.share import share_folders

LIST = "flasher_args.json"
TABLE = "partition-table"
ENTRY = struct.Struct("<HBBII16sI")
ENTRY_MAGIC = 0x50AA
HINT = "Build it again: `make firmware`."


class Partition(Record):
    """A region of the flash, as the partition table on the board names it."""

    label: str
    address: int
    size_bytes: int


class FirmwareImage(Record):
    """The files of a built firmware, and the partitions it knows."""

    folder: str
    chip: str
    parts: tuple[Part, ...]
    partitions: tuple[Partition, ...]


def built_image(name: str) -> FirmwareImage | None:
    """The firmware built in `firmware/<name>`, or in the folder of that path; None where not."""
    folders = [folder / name for folder in share_folders("firmware")]
    if Path(name).is_absolute():
        folders = [Path(name)]
    folder = next((each for each in folders if (each / LIST).is_file()), None)
    return read_image(folder) if folder else None


def read_image(folder: Path) -> FirmwareImage:
    """The image whose list lies in `folder`; `InputError` where list, files or table are wrong."""
    listed = folder / LIST
    try:
        table: Any = json.loads(listed.read_text(encoding="utf-8"))
        files = {int(address, 0): folder / name for address, name in table["flash_files"].items()}
        named = {
            int(entry["offset"], 0): key
            for key, entry in table.items()
            if isinstance(entry, dict) and {"offset", "file"} <= entry.keys()
        }
        chip = str(table.get("extra_esptool_args", {}).get("chip", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        msg = f"{listed} is not a list of files to flash: {type(err).__name__}: {err}"
        raise InputError(msg, hint=HINT) from err
    parts, partitions = [], []
    for address, path in sorted(files.items()):
        if not path.is_file() or path.stat().st_size == 0:
            msg = f"{listed} names {path.name} at {address:#x}, which is not there or empty"
            raise InputError(msg, hint=HINT)
        name = named.get(address, path.stem)
        parts.append(Part(name=name, address=address, path=str(path.resolve())))
        if TABLE in (name.replace("_", "-"), path.stem):
            partitions = read_partitions(path)
    return FirmwareImage(
        folder=str(folder), chip=chip, parts=tuple(parts), partitions=tuple(partitions)
    )


def read_partitions(path: Path) -> list[Partition]:
    """The entries of a binary partition table: 32 bytes each, little-endian, magic 0x50AA."""
    data = path.read_bytes()
    found = []
    for offset in range(0, len(data) - ENTRY.size + 1, ENTRY.size):
        magic, _, _, address, size, label, _ = ENTRY.unpack_from(data, offset)
        if magic != ENTRY_MAGIC:  # the table's own hash, or erased flash
            break
        text = label.rstrip(b"\0").decode(errors="replace")
        found.append(Partition(label=text, address=address, size_bytes=size))
    if not found:
        msg = f"{path} holds no partition, expected entries that begin with AA 50"
        raise InputError(msg, hint=HINT)
    return found
