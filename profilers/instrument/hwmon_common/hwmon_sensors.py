"""What Linux's hwmon tree shows of power, energy and temperature, and which of it is all of it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

# Voltage and current of one rail have the same number there; in4 to in6 are the shunts' voltages,
# in7 and curr4 sums over the rails (docs.kernel.org/hwmon/ina3221.html).
RAIL_MONITORS = {"ina3221": (1, 2, 3)}
# The rail that feeds all others, the widest first: docs.nvidia.com/jetson, power monitors. None of
# these names is on Jetson AGX boards, where no rail stands for the module.
TOTAL_RAILS = ("VIN", "VDD_IN", "POM_5V_IN")
NOT_CONNECTED = "NC"
# What a rail feeds is in its power already: docs.nvidia.com/jetson, power monitors, and NVIDIA
# Developer Forums 223111 on VIN_SYS_5V0.
FEEDS = {
    "VIN": ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
    "VDD_IN": ("VDD_CPU_GPU_CV", "VDD_SOC"),
    "POM_5V_IN": ("POM_5V_GPU", "POM_5V_CPU"),
    "VIN_SYS_5V0": ("VDDQ_VDD2_1V8AO",),
}
# What a driver calls a whole processor package.
PACKAGES = {
    "amd_energy": re.compile(r"Esocket(\d+)"),
    "zenpower": re.compile(r"(?:cpu(\d+) )?RAPL_P_Package"),
}
# Reading a core's sensor wakes that core, so only what stands for a package is read.
READ_ONLY = {"amd_energy": re.compile(r"Esocket\d+"), "coretemp": re.compile(r"Package id \d+")}
# Disks and radios: slow to ask, and no part of an inference.
LEFT_OUT = ("nvme", "drivetemp", "iwlwifi", "ath10k", "ath11k")


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


def value(sensor: Sensor) -> float:
    product = 1
    for path in sensor.files:
        product *= int(text(path))
    return product / sensor.divisor


def find_chips(root: Path) -> list[Chip]:
    found = []
    for folder in root.glob("hwmon*"):
        number = folder.name[len("hwmon") :]
        name = optional(folder / "name")
        if number.isdigit() and name:
            device = folder / "device"
            address = device.resolve().name if device.exists() else folder.name
            found.append((int(number), Chip(folder, name, address)))
    return [chip for _, chip in sorted(found)]


def sensors_of(chip: Chip) -> list[Sensor]:
    """Every power, energy and temperature of a chip, but for those not to be read."""
    folder, sensors = chip.folder, []
    every = interval_s(folder / "update_interval")
    for feature in _features(folder, "power", ("input", "average")):
        instant = (folder / f"{feature}_input").exists()
        file = folder / f"{feature}_{'input' if instant else 'average'}"
        period_s = every if instant else interval_s(folder / f"{feature}_average_interval")
        label = _label(chip, feature)
        scope = _scope(chip, label) + ("" if instant else ", average")
        sensors.append(Sensor(chip, label, "power", "W", scope, (file,), 10**6, period_s))
    for number in RAIL_MONITORS.get(chip.name, ()):
        files = (folder / f"in{number}_input", folder / f"curr{number}_input")
        label = optional(folder / f"in{number}_label")
        if label is None and optional(folder / f"in{number}_enable") == "0":
            label = NOT_CONNECTED  # the device tree disables it
        if label != NOT_CONNECTED and all(file.exists() for file in files):
            label = label or f"rail{number}"
            scope = _scope(chip, label)
            sensors.append(Sensor(chip, label, "power", "W", scope, files, 10**6, every))
    for feature in _features(folder, "energy", ("input",)):
        file, label = folder / f"{feature}_input", _label(chip, feature)
        scope = _scope(chip, label)
        sensors.append(Sensor(chip, label, "energy", "J", scope, (file,), 10**6, every))
    for feature in _features(folder, "temp", ("input",)):
        file, label = folder / f"{feature}_input", optional(folder / f"{feature}_label") or feature
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
        optional(chip.folder / f"{feature}_label")
        or optional(chip.folder / "label")
        or (optional(chip.folder / "in1_label") if chip.name.startswith("ina") else None)
        or feature
    )


def _scope(chip: Chip, label: str) -> str:
    package = PACKAGES[chip.name].fullmatch(label) if chip.name in PACKAGES else None
    if package:
        return f"package-{package[1] or 0}"
    return f"rail {label}" if chip.name.startswith("ina") else f"{chip.name} {label}"


def unreadable(sensor: Sensor) -> str | None:
    """Why a sensor gives no number now; None if it does."""
    for path in sensor.files:
        if optional(path.with_name(path.name.replace("_input", "_enable"))) == "0":
            return "switched off"
    try:
        value(sensor)
    except PermissionError as err:
        return f"permission denied (sudo chmod a+r {err.filename or sensor.files[0]})"
    except OSError as err:
        return f"{err.strerror or type(err).__name__}"
    except ValueError as err:
        return str(err)
    return None


def channel_names(sensors: list[Sensor]) -> dict[str, Sensor]:
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


def find_total(
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
        twice = _fed([powers[name].label for name in chosen])
        if twice:
            msg = f"option total counts power twice: {twice[0]}"
            raise BadInput(msg, hint="Name only one of the two.")
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
    fed = "".join(f" ({pair}: not both)" for pair in _fed([s.label for s in powers.values()]))
    return set(), (
        f"no sensor is known to stand for the whole device among {', '.join(powers)}; if some do,"
        f" name them in the option total{fed}"
    )


def _fed(labels: list[str]) -> list[str]:
    """Which of some rails feed others of them, in words."""
    return [f"{a} feeds {b}" for a in labels for b in FEEDS.get(a, ()) if b in labels]


def _once(found: dict[str, Sensor]) -> set[str]:
    """The names, without the power of what also has an energy counter: that would count twice."""
    counters = {(s.chip, s.label) for s in found.values() if s.quantity == "energy"}
    return {
        n for n, s in found.items() if s.quantity == "energy" or (s.chip, s.label) not in counters
    }


def interval_s(path: Path) -> float | None:
    """An interval in ms, as s; None where the driver does not tell."""
    text = optional(path)
    return int(text) / 1000 if text and text.isdigit() and int(text) > 0 else None


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def optional(path: Path) -> str | None:
    """A file's text; None where there is none, or it cannot be read."""
    try:
        return text(path) or None
    except (OSError, ValueError):
        return None
