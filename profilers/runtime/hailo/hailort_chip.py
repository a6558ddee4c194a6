"""One chip on this machine: which, may it be used, what it is, how warm and how fast it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hailort_faults import BadInput, Missing, explained, no_access, status_of
from hailort_versions import check_installed, firmware, listed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

Answer = TypeVar("Answer")
DEVICES = Path("/dev")
UNSET = "<N/A>"
# which chips' programs a chip runs: the smaller one's run on the larger, slower than its own
RUNS = {"hailo8": ("hailo8", "hailo8r", "hailo8l"), "hailo8l": ("hailo8l",)}


def find(platform: ModuleType, wanted: str) -> str:
    """The id of the chip to use: the one named, or the first. Raises `Missing`."""
    with explained("looking for a chip", {}):
        found = [str(each) for each in platform.Device.scan()]
    nodes = sorted(str(node) for node in DEVICES.glob("hailo*"))
    for node in nodes:
        if not os.access(node, os.R_OK | os.W_OK):
            raise no_access(node)
    if not found:
        loaded = "its driver is loaded" if nodes else "no /dev/hailo* is there"
        msg = f"HailoRT finds no chip on this machine ({loaded})"
        hint = (
            "`lspci | grep -i hailo` shows whether the board is seen: if not, seat it again and"
            " enable PCIe; if it is, install the PCIe driver and `modprobe hailo_pci`."
        )
        raise Missing(msg, hint)
    if wanted and wanted not in found:
        msg = f"there is no chip {wanted!r} on this machine, found: {', '.join(found)}"
        raise Missing(msg, "Name one of these with run option device_id, or leave it out.")
    return wanted or found[0]


def identity(platform: ModuleType, chip: str, found: dict[str, str | None]) -> dict[str, Any]:
    """What the chip says of itself, without taking it: anyone may ask one that is in use.

    Adds the firmware to the versions `found`; raises `BadInput` where it does not fit them.
    """
    with explained("asking the chip what it is", {"versions": listed(found)}):
        device = platform.Device(chip)
        try:
            board = device.control.identify()
            found["firmware"] = firmware(board.firmware_version)
            # with another firmware it refuses most other questions, and not by saying so
            check_installed(found)
            extended = device.control.get_extended_device_information()
        finally:
            device.release()
    return {
        "device_id": chip,
        "architecture": str(board.device_architecture).rpartition(".")[2].lower(),
        "board_name": words(board.board_name),
        "product_name": words(board.product_name),
        "serial_number": words(board.serial_number),
        "part_number": words(board.part_number),
        "chip_clock_hz": float(extended.neural_network_core_clock_rate),
    }


def check_fits(hw_arch: str, chip: str) -> str:
    """Raise `BadInput` for a HEF of another chip; a note where it runs slower than it could."""
    if hw_arch not in RUNS.get(chip, ()):
        msg = f"the HEF is compiled for {hw_arch}, the chip here is {chip}"
        raise BadInput(msg, f"Compile for {chip}, or deploy to a machine with a {hw_arch}.")
    if hw_arch == chip:
        return ""
    return f"compiled for {hw_arch}, run on {chip}: slower than compiled for {chip}"


def sensors(platform: ModuleType, chip: str) -> dict[str, Any]:
    """Temperatures, clock and whether protection by throttling is on, each where it is told."""
    found: dict[str, Any] = {}
    with explained("asking the chip how it is", {}):
        device = platform.Device(chip)
        try:
            control = device.control
            warm = asked(control.get_chip_temperature)
            extended = asked(control.get_extended_device_information)
            throttling = asked(control.get_throttling_state)
        finally:
            device.release()
    if warm is not None:
        found["temperatures_c"] = {
            "chip ts0": float(warm.ts0_temperature),
            "chip ts1": float(warm.ts1_temperature),
        }
    if extended is not None:
        found["chip_clock_hz"] = float(extended.neural_network_core_clock_rate)
    if throttling is not None:
        found["chip_throttling_protection"] = bool(throttling)
    return found


def asked(question: Callable[[], Answer]) -> Answer | None:
    """The chip's answer, or None where this board or firmware has none."""
    try:
        return question()
    except Exception as error:
        if status_of(error) in {"HAILO_UNSUPPORTED_OPCODE", "HAILO_FW_CONTROL_FAILURE"}:
            return None
        raise


def words(text: object) -> str | None:
    """A text of the chip's without its padding; None where it was never set."""
    found = str(text).rstrip("\x00").strip()
    return None if found in {"", UNSET} else found
