# /// script
# requires-python = ">=3.8"
# dependencies = []
#
# [tool.edgedeploy]
# modules = ["hwmon_common"]
# ///
"""Jetson: the power rails, clocks, temperatures and power mode of a board, from its own system."""

from __future__ import annotations

import errno
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent / "hwmon_common"))
from hwmon_sensors import (
    NOT_CONNECTED,
    TOTAL_RAILS,
    BadInput,
    Chip,
    Missing,
    Sensor,
    channel_names,
    find_chips,
    find_total,
    optional,
    sensors_of,
    text,
    unreadable,
    value,
)

__all__ = ["BadInput", "Missing"]

OPTIONS = ("root", "total")
MONITORS = ("ina3221", "ina238")
# JetPack 4: three rails a chip, power in mW (docs.nvidia.com/jetson/l4t, r32, power monitors).
OLD_MONITORS = "bus/i2c/drivers/ina3221x/*/iio:device*"
OLD_RAILS = (0, 1, 2)
# The GPU's devfreq device: its name changes with chip and JetPack, and on Thor it is a PCIe device
# with a domain of its own for the video engines.
DEVFREQ = ("class/devfreq", "devices/gpu.0/devfreq", "devices/platform/gpu.0/devfreq")
GPU = re.compile(r"[0-9a-f]+\.(?:gpu|gm20b|gp10b|gv11b|ga10b|gb10b)|gpu-gpc-\d+")
# The memory's clock is in debugfs, which only root may read.
DEBUGFS = "kernel/debug"
EMC = (f"{DEBUGFS}/bpmp/debug/clk/emc/rate", f"{DEBUGFS}/clk/emc/clk_rate")
# Not a sensor: it tells 100 degrees always.
NO_ZONES = ("PMIC-Die",)
# What the zone of a unit without power tells, in thousandths of a degree; others give EAGAIN.
OFF = -256_000
SLOW_S = 0.1
NVPMODEL_S = 10
MODE = re.compile(r"(?m)^(?:NVPM VERB: Current mode: )?NV Power Mode: *(\S+)\s*^(\d+)")
STATUS = re.compile(r"pmode:(\d+)")
MODEL = r"(?m)^\s*<\s*POWER_MODEL\s+ID={}\s+NAME=(\S+?)\s*>"
RELEASE = re.compile(r"R(\d+) .*REVISION: ([\d.]+)")
NOT_HERE_HINT = (
    "On a Jetson run on the board itself; in a container mount the host's / and name it in the"
    " option root. Elsewhere use the instrument hwmon."
)


class Gauge(NamedTuple):
    """A clock or a temperature: the number in `file`, times `factor` over `divisor`, is in the
    unit."""

    name: str
    quantity: str
    unit: str
    scope: str
    file: Path
    factor: int
    divisor: int


class Slow:
    """A gauge read every `SLOW_S`; in between the last reading stands."""

    def __init__(self, gauge: Gauge) -> None:
        self.gauge = gauge
        self.due = 0.0
        self.last: float | None = None

    def read(self) -> float | None:
        now = time.perf_counter()
        if now >= self.due:
            self.due = now + SLOW_S
            gauge = self.gauge
            try:
                number = int(text(gauge.file))
                self.last = number * gauge.factor / gauge.divisor if number != OFF else None
            except (OSError, ValueError):
                self.last = None
        return self.last


class Board:
    """A board's tree being read, and how often it had been throttled when that began."""

    def __init__(self, sysfs: Path) -> None:
        self.sysfs = sysfs
        self.rails, self.left_out = _rails(sysfs)
        self.gauges = [Slow(gauge) for gauge in (*_clocks(sysfs), *_temperatures(sysfs))]
        self.throttled = _throttle_counts(sysfs)

    def read(self) -> list[float | None]:
        readings: list[float | None] = []
        for sensor in self.rails:
            try:
                readings.append(value(sensor))
            except (OSError, ValueError):
                readings.append(None)
        return readings + [slow.read() for slow in self.gauges]

    def told(self) -> list[str]:
        """Notes on over-current throttling since the beginning."""
        return [
            f"throttled by over-current {after - self.throttled[name]} times ({name})"
            for name, after in _throttle_counts(self.sysfs).items()
            if after > self.throttled.get(name, after)
        ]


_boards: list[Board] = []


def probe() -> dict[str, Any]:
    """Versions of Linux and of Jetson Linux; raises `Missing` where nothing of a Jetson is."""
    _require(Board(Path("/sys")), Path("/"))
    tools = {"linux": platform.release()}
    release = RELEASE.search(optional(Path("/etc/nv_tegra_release")) or "")
    if release:
        tools["jetson-linux"] = f"{release[1]}.{release[2]}"
    return {"tools": tools}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of power (W) by rail, clocks (Hz; the GPU's first) and temperatures (°C).

    Rails are those of the INA3221 and INA238 monitors, or of JetPack 4's iio devices. The rail
    that feeds all others is total: VDD_IN, POM_5V_IN, or VIN on Thor. An AGX board has none, and
    `notes` says so; option `total` names the rails (labels or channel names) whose sum is to stand
    for the board, and a rail beside one that feeds it is refused. Option `root` is where the host's
    / is mounted. `facts` are the power mode and whether the clocks are fixed, as jetson_clocks
    does; `notes` say the same, and what was left out. Raises `Missing` on what is not a Jetson.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        msg = f"jetson has no option {unknown[0]!r}"
        raise BadInput(msg, hint=f"Known: {', '.join(OPTIONS)}.")
    if not isinstance(options.get("total", []), list):
        msg = f"jetson's option total is {options['total']!r}, not a list of names"
        raise BadInput(msg, hint=f"Write total = [{options['total']!r}].")
    root = Path(options.get("root", "/"))
    board = Board(root / "sys")
    _require(board, root)
    rails = channel_names(board.rails)
    total, reason = find_total(rails, options.get("total"), [s for s, _ in board.left_out])
    facts = {**_power_mode(root), **_clock_facts(board.sysfs)}
    notes = [f"{s.chip.name} {s.label} left out: {why}" for s, why in board.left_out]
    notes += [f"no total: {reason}"] if reason else _reach([rails[name].label for name in total])
    notes += _in_words(facts, board)
    _boards[:] = [board]
    channels = [_channel(n, s, s.period_s, total=n in total) for n, s in rails.items()]
    channels += [_channel(s.gauge.name, s.gauge, SLOW_S, total=False) for s in board.gauges]
    return {"channels": channels, "notes": notes, "facts": facts}


def read() -> list[float | None]:
    """One number a channel in SI units; None where a sensor failed just now, or sleeps."""
    return [reading for board in _boards for reading in board.read()]


def close() -> dict[str, Any]:
    """Forget the sensors; `notes` on over-current throttling meanwhile."""
    notes = [note for board in _boards for note in board.told()]
    _boards.clear()
    return {"notes": notes}


def _channel(
    name: str, sensor: Sensor | Gauge, period_s: float | None, *, total: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "quantity": sensor.quantity,
        "unit": sensor.unit,
        "scope": sensor.scope,
        "counter_range": None,
        "period_s": period_s,
        "total": total,
    }


def _require(board: Board, root: Path) -> None:
    if board.rails:
        return
    if board.left_out:
        sensor, why = board.left_out[0]
        msg = f"no power rail of {sensor.chip.name} can be read ({sensor.label}: {why})"
        raise Missing(msg, hint="Run as a user who may read these files.")
    if board.gauges and (root / "etc/nv_tegra_release").exists():
        return
    msg = f"there is no power monitor of a Jetson ({' or '.join(MONITORS)}) in {board.sysfs}"
    raise Missing(msg, hint=NOT_HERE_HINT)


def _rails(sysfs: Path) -> tuple[list[Sensor], list[tuple[Sensor, str]]]:
    """The rails that can be read now, and the others with the reason why they cannot."""
    chips = [chip for chip in find_chips(sysfs / "class/hwmon") if chip.name in MONITORS]
    found = [s for chip in chips for s in sensors_of(chip) if s.quantity == "power"]
    found += [s for folder in sorted(sysfs.glob(OLD_MONITORS)) for s in _old_rails(folder)]
    rails: list[Sensor] = []
    left_out: list[tuple[Sensor, str]] = []
    for sensor in found:
        why = unreadable(sensor)
        if why:
            left_out.append((sensor, why))
        else:
            rails.append(sensor)
    return rails, left_out


def _old_rails(folder: Path) -> list[Sensor]:
    chip = Chip(folder, "ina3221", folder.parent.name)
    rails = []
    for number in OLD_RAILS:
        file = folder / f"in_power{number}_input"
        label = optional(folder / f"rail_name_{number}") or NOT_CONNECTED
        if label != NOT_CONNECTED and file.exists():
            rails.append(Sensor(chip, label, "power", "W", f"rail {label}", (file,), 10**3, None))
    return rails


def _gpus(sysfs: Path) -> list[Path]:
    """The GPU's devfreq folders, each once."""
    found: dict[str, Path] = {}
    for place in DEVFREQ:
        for folder in sorted((sysfs / place).glob("*")):
            if GPU.fullmatch(folder.name):
                found.setdefault(folder.name, folder)
    return list(found.values())


def _policies(sysfs: Path) -> list[Path]:
    folders = (sysfs / "devices/system/cpu/cpufreq").glob("policy*")
    return sorted(folders, key=lambda folder: int(folder.name[len("policy") :]))


def _clocks(sysfs: Path) -> list[Gauge]:
    """The GPU's clock, the memory's where it can be read, and each CPU cluster's."""
    gpus, policies = _gpus(sysfs), _policies(sysfs)
    emc = next((sysfs / path for path in EMC if optional(sysfs / path)), None)
    files = [("gpu", f"GPU {f.name}", f / "cur_freq", 1) for f in gpus]
    files += [] if emc is None else [("emc", "memory", emc, 1)]
    files += [("cpu", f"CPU {f.name}", f / "scaling_cur_freq", 1000) for f in policies]
    several = Counter(of for of, *_ in files)
    gauges = []
    for of, scope, file, factor in files:
        name = f"{of}_clock" if several[of] == 1 else f"{of}_clock.{file.parent.name}"
        if optional(file):
            gauges.append(Gauge(name, "clock", "Hz", scope, file, factor, 1))
    return gauges


def _temperatures(sysfs: Path) -> list[Gauge]:
    """Thermal zones that are read now, or are asleep and may be read under load."""
    gauges: dict[str, Gauge] = {}
    folders = (sysfs / "class/thermal").glob("thermal_zone*")
    for folder in sorted(folders, key=lambda folder: int(folder.name[len("thermal_zone") :])):
        kind = optional(folder / "type")
        if kind is None or kind in NO_ZONES or kind in gauges:
            continue
        gauge = Gauge(kind, "temperature", "°C", f"zone {kind}", folder / "temp", 1, 1000)
        try:
            int(text(gauge.file))
        except OSError as err:
            if err.errno != errno.EAGAIN:
                continue
        except ValueError:
            continue
        gauges[kind] = gauge
    return list(gauges.values())


def _throttle_counts(sysfs: Path) -> dict[str, int]:
    """Over-current events since boot, by the counter's name."""
    counts = {}
    for chip in find_chips(sysfs / "class/hwmon"):
        for file in sorted(chip.folder.glob("oc*_event_cnt")):
            said = optional(file)
            if said and said.isdigit():
                counts[file.name[: -len("_event_cnt")]] = int(said)
    return counts


def _power_mode(root: Path) -> dict[str, Any]:
    """The mode that nvpmodel set: from itself, else from what it keeps in files."""
    program = shutil.which("nvpmodel")
    if program is not None:
        command = [program, "-q"]
        try:
            said = subprocess.run(
                command, capture_output=True, text=True, timeout=NVPMODEL_S, check=False
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        mode = MODE.search(said)
        if mode:
            return {"power_mode": mode[1], "power_mode_id": int(mode[2])}
    kept = STATUS.search(optional(root / "var/lib/nvpmodel/status") or "")
    if kept is None:
        return {}
    number = int(kept[1])
    named = re.search(MODEL.format(number), optional(root / "etc/nvpmodel.conf") or "")
    return {"power_mode": named[1] if named else None, "power_mode_id": number}


def _clock_facts(sysfs: Path) -> dict[str, Any]:
    """The range the GPU's clock may move in, and whether this and the CPUs' are fixed."""
    ranges = [_range(f / "min_freq", f / "max_freq") for f in _gpus(sysfs)]
    every = ranges + [
        _range(f / "scaling_min_freq", f / "scaling_max_freq") for f in _policies(sysfs)
    ]
    known = [found for found in every if found is not None]
    facts: dict[str, Any] = {}
    if ranges and ranges[0] is not None:
        facts["gpu_clock_range_hz"] = list(ranges[0])
        facts["gpu_governor"] = optional(_gpus(sysfs)[0] / "governor")
    if known:
        facts["clocks_fixed"] = all(low == high for low, high in known)
    return facts


def _range(low: Path, high: Path) -> tuple[int, int] | None:
    said = (optional(low), optional(high))
    return (int(said[0]), int(said[1])) if said[0] and said[1] else None


def _reach(labels: list[str]) -> list[str]:
    """What a module's own input rail leaves out."""
    return [
        f"{label} is the module's input: what its carrier board takes is not in it"
        for label in labels
        if label in TOTAL_RAILS and label != "VIN"
    ]


def _in_words(facts: dict[str, Any], board: Board) -> list[str]:
    notes = []
    if "power_mode_id" in facts:
        name = facts["power_mode"] or "of a name not found"
        notes.append(f"power mode {facts['power_mode_id']}, {name} (nvpmodel)")
    if "clocks_fixed" in facts:
        low, high = (hz / 1e6 for hz in facts.get("gpu_clock_range_hz", (0, 0)))
        span = f"; the GPU's from {low:g} to {high:g} MHz" if high else ""
        fixed = "clocks are fixed, as by jetson_clocks"
        free = "clocks move with load; sudo jetson_clocks fixes them"
        notes.append((fixed if facts["clocks_fixed"] else free) + span)
    if not any(slow.gauge.name == "emc_clock" for slow in board.gauges):
        notes.append(f"no memory clock: it is in {board.sysfs / DEBUGFS}, which root may read")
    return notes
