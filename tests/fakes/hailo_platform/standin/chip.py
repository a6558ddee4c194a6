"""The made-up chips: what a state file says of them, and who holds them."""

import fcntl
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

from hailo_platform.standin.status import check, fail, log

VERSION = "4.23.0"
LOCAL = "+standin"
# of the machine; "devices" lists what differs from DEVICE for each chip
MACHINE = {"library_version": VERSION, "driver_version": VERSION, "devices": [{}]}
DEVICE = {
    "id": "0000:01:00.0",
    "architecture": "HAILO8",
    "board_name": "Hailo-8 (stand-in)",
    "firmware_version": VERSION,
    "serial_number": "STAND-IN-0001",
    "part_number": "STAND-IN",
    "product_name": "HAILO-8 STAND-IN M.2 MODULE, MADE-UP FIGURES",
    "clock_hz": 400_000_000,
    "busy": False,
    "evaluation_board": False,
    "power_sensor": True,
    "power_w": 2.5,
    "power_samples_lost": 0.0,
    "temperature_c": 45.0,
    "throttling_enabled": True,
    "throttling_level": 0,
    "queue_size": 8,
    "latency_s": 0.0,
    "infer_status": 0,
    "command_latency_s": 0.0025,
    "command_time_scale": 0.0,
}


def folder():
    """The folder of the state: $HAILO_STANDIN_STATE, or one for this user."""
    named = os.environ.get("HAILO_STANDIN_STATE")
    path = Path(named or Path(tempfile.gettempdir(), f"hailo-standin-{os.getuid()}"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def machine():
    """What `state.json` in the folder says, read anew each time; every key has a default.

    A key of a device may stand outside "devices": then it holds for each of them.
    """
    path = folder() / "state.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known(said, {**MACHINE, **DEVICE})
    shared = {key: value for key, value in said.items() if key in DEVICE}
    devices = []
    for place, own in enumerate(said.get("devices", MACHINE["devices"])):
        known(own, DEVICE)
        device = {**DEVICE, "id": f"0000:{place + 1:02x}:00.0", **shared, **own}
        if "stand-in" not in device["board_name"]:
            message = f"board_name {device['board_name']!r} does not say that it is a stand-in"
            raise ValueError(message)
        devices.append(SimpleNamespace(**device))
    rest = {key: said.get(key, MACHINE[key]) for key in ("library_version", "driver_version")}
    return SimpleNamespace(devices=devices, **rest)


def known(said, keys):
    """Refuse a key that means nothing: a typing error would test nothing."""
    if unknown := sorted(set(said) - set(keys)):
        message = f"state.json of the stand-in: unknown {unknown}; known are {sorted(keys)}"
        raise ValueError(message)


def numbers(version):
    """(major, minor, revision)."""
    return tuple(int(part) for part in version.split("."))


def opened(device_id):
    """The chip of that id as the driver opens it; refused where driver and library differ."""
    found = machine()
    chip = next((one for one in found.devices if one.id == device_id), None)
    if chip is None:
        fail("HAILO_INVALID_ARGUMENT", "Requested device not found")
    check(
        found.driver_version == found.library_version,
        "HAILO_INVALID_DRIVER_VERSION",
        f"Driver version ({found.driver_version}) is different from"
        f" library version ({found.library_version})",
    )
    if not supported(chip):
        log(
            "warning",
            f"Unsupported firmware operation. Host: {VERSION}, Device: {chip.firmware_version}",
        )
    return chip


def supported(chip):
    """Whether library and firmware understand each other: major and minor version the same."""
    return numbers(chip.firmware_version)[:2] == numbers(VERSION)[:2]


def operate(chip, opcode):
    """Refuse an operation that a firmware of another version is not asked to do."""
    if not supported(chip):
        fail(
            "HAILO_UNSUPPORTED_FW_VERSION",
            f"Operation {opcode} is not allowed when FW version in not supported."
            f" Host supported FW version is {VERSION}",
        )


def hold(chip):
    """Take the chip for inference: an open file that holds it, or None where it is held already.

    The lock is the operating system's: it goes with the process, however that ends.
    """
    if chip.busy:
        return None
    file = (folder() / f"{chip.id.replace(':', '-')}.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def take(device_ids, count=1):
    """Hold `count` free chips, or exactly those named: [(chip, held)]. Refused as by the driver."""
    held = []
    try:
        for device_id in device_ids or [one.id for one in machine().devices]:
            if device_ids or len(held) < count:
                chip = opened(device_id)
                operate(chip, 71)
                file = hold(chip)
                if file is not None:
                    held.append((chip, file))
                elif device_ids:
                    fail(
                        "HAILO_DEVICE_IN_USE",
                        "CHECK_SUCCESS failed with status=HAILO_DEVICE_IN_USE(73)",
                    )
        needed = len(device_ids) or count
        check(
            len(held) == needed,
            "HAILO_OUT_OF_PHYSICAL_DEVICES",
            "Failed to create vdevice. there are not enough free devices."
            f" requested: {needed}, found: {len(held)}",
        )
    except Exception:
        for _, file in held:
            file.close()
        raise
    return held
