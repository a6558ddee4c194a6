# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
"""Hwmon: the power, energy and temperature sensors of a board, from Linux's hwmon tree."""

from __future__ import annotations

import platform
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

SYSFS = "/sys"
# Voltage and current of one rail have the same number there; in4 to in6 are the shunts' voltages,
# in7 and curr4 sums over the rails (docs.kernel.org/hwmon/ina3221.html).
RAIL_MONITORS = {"ina3221": (1, 2, 3)}
# The rail that feeds all others, the widest first: docs.nvidia.com/jetson, power monitors. None of
# these names is on Jetson AGX boards, where no rail stands for the module.
TOTAL_RAILS = ("VIN", "VDD_IN", "POM_5V_IN")
NOT_CONNECTED = "NC"
# What a driver calls a whole processor package.
PACKAGES = {
    "amd_energy": re.compile(r"Esocket(\d+)"),
    "zenpower": re.compile(r"(?:cpu(\d+) )?RAPL_P_Package"),
}
# Reading a core's sensor wakes that core, so only what stands for a package is read.
READ_ONLY = {"amd_energy": re.compile(r"Esocket\d+"), "coretemp": re.compile(r"Package id \d+")}
# Disks and radios: slow to ask, and no part of an inference.
LEFT_OUT = ("nvme", "drivetemp", "iwlwifi", "ath10k", "ath11k")
OPTIONS = ("devices", "sysfs", "total")


class Missing(Exception):
    """There is no sensor to read here; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Chip(NamedTuple):
    """One device of the tree; `address` tells two of a kind apart."""

    folder: Path
    name: str
    address: str


class Sensor(NamedTuple):
    """One quantity of a chip: the product of its files over `divisor` is in the SI unit."""

    chip: Chip
    label: str
    quantity: str
    unit: str
    scope: str
    files: tuple[Path, ...]
    divisor: int
    period_s: float | None


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
    named = _named(sensors)
    total, reason = _total(named, options.get("total"), [s for s, _ in left_out])
    if reason:
        notes.append(f"no total: {reason}")
    _sensors[:] = named.values()
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
        for name, sensor in named.items()
    ]
    return {"channels": channels, "notes": notes}


def read() -> list[float | None]:
    """One number a channel in SI units; None where the sensor failed just now."""
    readings: list[float | None] = []
    for sensor in _sensors:
        try:
            readings.append(_value(sensor))
        except (OSError, ValueError):
            readings.append(None)
    return readings


def close() -> None:
    """Forget the sensors."""
    _sensors.clear()


def _value(sensor: Sensor) -> float:
    product = 1
    for path in sensor.files:
        product *= int(_text(path))
    return product / sensor.divisor


def _find(sysfs: Path, devices: list[str] | None) -> tuple[list[Sensor], list[tuple[Sensor, str]]]:
    """The sensors that can be read now, and the others with the reason why they cannot."""
    root = sysfs / "class" / "hwmon"
    chips = _chips(root)
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
    for sensor in (sensor for chip in chosen for sensor in _sensors_of(chip)):
        reason = _unreadable(sensor)
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


def _chips(root: Path) -> list[Chip]:
    found = []
    for folder in root.glob("hwmon*"):
        number = folder.name[len("hwmon") :]
        name = _optional(folder / "name")
        if number.isdigit() and name:
            device = folder / "device"
            address = device.resolve().name if device.exists() else folder.name
            found.append((int(number), Chip(folder, name, address)))
    return [chip for _, chip in sorted(found)]


def _sensors_of(chip: Chip) -> list[Sensor]:
    """Every power, energy and temperature of a chip, but for those not to be read."""
    folder, sensors = chip.folder, []
    every = _period_s(folder / "update_interval")
    for feature in _features(folder, "power", ("input", "average")):
        instant = (folder / f"{feature}_input").exists()
        file = folder / f"{feature}_{'input' if instant else 'average'}"
        period_s = every if instant else _period_s(folder / f"{feature}_average_interval")
        label = _label(chip, feature)
        scope = _scope(chip, label) + ("" if instant else ", average")
        sensors.append(Sensor(chip, label, "power", "W", scope, (file,), 10**6, period_s))
    for number in RAIL_MONITORS.get(chip.name, ()):
        files = (folder / f"in{number}_input", folder / f"curr{number}_input")
        label = _optional(folder / f"in{number}_label") or f"rail{number}"
        if label != NOT_CONNECTED and all(file.exists() for file in files):
            scope = _scope(chip, label)
            sensors.append(Sensor(chip, label, "power", "W", scope, files, 10**6, every))
    for feature in _features(folder, "energy", ("input",)):
        file, label = folder / f"{feature}_input", _label(chip, feature)
        scope = _scope(chip, label)
        sensors.append(Sensor(chip, label, "energy", "J", scope, (file,), 10**6, every))
    for feature in _features(folder, "temp", ("input",)):
        file, label = folder / f"{feature}_input", _optional(folder / f"{feature}_label") or feature
        scope = f"{chip.name} {label}"
        sensors.append(Sensor(chip, label, "temperature", "°C", scope, (file,), 10**3, every))
    wanted = READ_ONLY.get(chip.name)
    return [s for s in sensors if wanted is None or wanted.fullmatch(s.label)]


def _features(folder: Path, kind: str, readings: tuple[str, ...]) -> list[str]:
    """`power1`, `power2`, … that have one of the readings, in numeric order."""
    pattern = re.compile(rf"{kind}(\d+)_(?:{'|'.join(readings)})")
    matches = (pattern.fullmatch(path.name) for path in folder.iterdir())
    return [f"{kind}{number}" for number in sorted({int(match[1]) for match in matches if match})]


def _label(chip: Chip, feature: str) -> str:
    """The sensor's own label, else the device's, else its bus voltage's, else `power1`."""
    return (
        _optional(chip.folder / f"{feature}_label")
        or _optional(chip.folder / "label")
        or (_optional(chip.folder / "in1_label") if chip.name.startswith("ina") else None)
        or feature
    )


def _scope(chip: Chip, label: str) -> str:
    package = PACKAGES[chip.name].fullmatch(label) if chip.name in PACKAGES else None
    if package:
        return f"package-{package[1] or 0}"
    return f"rail {label}" if chip.name.startswith("ina") else f"{chip.name} {label}"


def _unreadable(sensor: Sensor) -> str | None:
    """Why a sensor gives no number now; None if it does."""
    for path in sensor.files:
        if _optional(path.with_name(path.name.replace("_input", "_enable"))) == "0":
            return "switched off"
    try:
        _value(sensor)
    except OSError as err:
        return f"{err.strerror or type(err).__name__}"
    except ValueError as err:
        return str(err)
    return None


def _named(sensors: list[Sensor]) -> dict[str, Sensor]:
    """Sensors by chip and label, with the chip's address and the file where that is not unique."""
    named = {}
    short = Counter((s.chip.name, s.label) for s in sensors)
    long = Counter((s.chip.name, s.chip.address, s.label) for s in sensors)
    for s in sensors:
        several = short[s.chip.name, s.label] > 1
        parts = [s.chip.name, s.chip.address, s.label] if several else [s.chip.name, s.label]
        if long[s.chip.name, s.chip.address, s.label] > 1:
            parts.append(s.files[0].name.split("_")[0])
        named[".".join(parts)] = s
    return named


def _total(
    named: dict[str, Sensor], wanted: list[str] | None, left_out: list[Sensor]
) -> tuple[set[str], str]:
    """The names of the channels that are total, or why none is."""
    powers = {n: s for n, s in named.items() if s.quantity in ("power", "energy")}
    if wanted is not None:
        for label in wanted:
            if any(label in (n, s.label) for n, s in powers.items()):
                continue
            if any(label == s.label for s in left_out):
                return set(), f"{label}, which the option total names, cannot be read"
            msg = f"option total names {label!r}, and no power or energy sensor is called so"
            raise BadInput(msg, hint=f"Found: {', '.join(powers) or 'none'}.")
        chosen = _once({n: s for n, s in powers.items() if s.label in wanted or n in wanted})
        return chosen, "" if chosen else "the option total is empty"
    if not powers:
        return set(), "no sensor of power or energy can be read here"
    rails = {n: s for n, s in powers.items() if s.chip.name.startswith("ina")}
    for label in TOTAL_RAILS:
        found = _once({n: s for n, s in rails.items() if s.label == label})
        if len(found) == 1:
            return found, ""
    packages = _once({n: s for n, s in powers.items() if s.scope.startswith("package-")})
    half = any(s.scope.startswith("package-") for s in left_out)
    if packages and not half and len({powers[n].scope for n in packages}) == len(packages):
        return packages, ""
    return set(), (
        f"no sensor is known to stand for the whole device among {', '.join(powers)}; if some do,"
        " name them in the option total"
    )


def _once(found: dict[str, Sensor]) -> set[str]:
    """The names, without the power of what also has an energy counter: that would count twice."""
    counters = {(s.chip, s.label) for s in found.values() if s.quantity == "energy"}
    return {
        n for n, s in found.items() if s.quantity == "energy" or (s.chip, s.label) not in counters
    }


def _period_s(path: Path) -> float | None:
    """An interval in ms, as s; None where the driver does not tell."""
    text = _optional(path)
    return int(text) / 1000 if text and text.isdigit() and int(text) > 0 else None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _optional(path: Path) -> str | None:
    """A file's text; None where there is none, or it cannot be read."""
    try:
        return _text(path) or None
    except (OSError, ValueError):
        return None
