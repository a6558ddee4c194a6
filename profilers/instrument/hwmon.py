# /// script
# requires-python = ">=3.8"
# dependencies = []
#
# [tool.edgedeploy]
# modules = ["hwmon_common"]
# ///
"""Hwmon: the power, energy and temperature sensors of a board, from Linux's hwmon tree."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent / "hwmon_common"))
from hwmon_sensors import (
    LEFT_OUT,
    BadInput,
    Missing,
    Sensor,
    channel_names,
    find_chips,
    find_total,
    sensors_of,
    unreadable,
    value,
)

__all__ = ["BadInput", "Missing"]

SYSFS = "/sys"
OPTIONS = ("devices", "sysfs", "total")

_sensors: list[Sensor] = []


def probe() -> dict[str, Any]:
    """The kernel's version; raises `Missing` where no sensor can be read."""
    _find(Path(SYSFS), None)
    return {"tools": {"linux": platform.release()}}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of power (W), energy (J) and temperature (°C).

    Option `sysfs` is where the host's /sys is mounted, `devices` the names of the chips to read,
    `total` the labels (or channel names) of the sensors whose sum is the whole device: only who
    knows the board can say. Without it the rail is total that is known to feed a module, or else
    the sensors of whole processor packages, or else none. What sits on a carrier board is not in a
    module's rail. `notes` says what was left out, and why nothing is total where nothing is.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        msg = f"hwmon has no option {unknown[0]!r}"
        raise BadInput(msg, hint=f"Known: {', '.join(OPTIONS)}.")
    for key in ("devices", "total"):
        if not isinstance(options.get(key, []), list):
            msg = f"hwmon's option {key} is {options[key]!r}, not a list of names"
            raise BadInput(msg, hint=f"Write {key} = [{options[key]!r}].")
    sensors, left_out = _find(Path(options.get("sysfs", SYSFS)), options.get("devices"))
    notes = [f"{s.chip.name} {s.label} left out: {reason}" for s, reason in left_out]
    by_name = channel_names(sensors)
    total, reason = find_total(by_name, options.get("total"), [s for s, _ in left_out])
    if reason:
        notes.append(f"no total: {reason}")
    _sensors[:] = by_name.values()
    channels = [
        {
            "name": name,
            "quantity": sensor.quantity,
            "unit": sensor.unit,
            "scope": sensor.scope,
            "counter_range": None,
            "period_s": sensor.period_s,
            "total": name in total,
        }
        for name, sensor in by_name.items()
    ]
    return {"channels": channels, "notes": notes}


def read() -> list[float | None]:
    """One number a channel in SI units; None where the sensor failed just now."""
    readings: list[float | None] = []
    for sensor in _sensors:
        try:
            readings.append(value(sensor))
        except (OSError, ValueError):
            readings.append(None)
    return readings


def close() -> None:
    """Forget the sensors."""
    _sensors.clear()


def _find(sysfs: Path, devices: list[str] | None) -> tuple[list[Sensor], list[tuple[Sensor, str]]]:
    """The sensors that can be read now, and the others with the reason why they cannot."""
    root = sysfs / "class" / "hwmon"
    chips = find_chips(root)
    if not chips:
        msg = f"the kernel shows no sensors: {root} has no hwmon device"
        hint = "A virtual machine has none; on a board load its sensor's driver, or use a meter."
        raise Missing(msg, hint=hint)
    known = sorted({chip.name for chip in chips})
    absent = [name for name in devices or () if name not in known]
    if absent:
        msg = f"there is no hwmon device {absent[0]!r}"
        raise BadInput(msg, hint=f"Found: {', '.join(known)}.")
    chosen = [
        chip
        for chip in chips
        if (chip.name in devices if devices is not None else not chip.name.startswith(LEFT_OUT))
    ]
    sensors: list[Sensor] = []
    left_out: list[tuple[Sensor, str]] = []
    for sensor in (sensor for chip in chosen for sensor in sensors_of(chip)):
        reason = unreadable(sensor)
        if reason:
            left_out.append((sensor, reason))
        else:
            sensors.append(sensor)
    if not sensors:
        found = f" ({left_out[0][0].files[0]}: {left_out[0][1]})" if left_out else ""
        names = ", ".join(known)
        msg = f"no power, energy or temperature of {names} in {root} can be read{found}"
        raise Missing(msg, hint="Run as a user who may read these files, or use a meter.")
    return sensors, left_out
