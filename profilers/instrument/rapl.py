# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
"""RAPL: the energy counters of an x86 processor, from the powercap tree of Linux."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any, NamedTuple

SYSFS = "/sys"
CPUINFO = "/proc/cpuinfo"
# The counters move about once a millisecond (Intel SDM volume 3B, RAPL interfaces).
UPDATE_PERIOD_S = 0.001
# intel-rapl:0, intel-rapl:0:2; not intel-rapl-mmio:0, a second view of the same package.
ZONE = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
UJ_PER_J = 1_000_000


class Missing(Exception):
    """There is no counter to read here; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Counter(NamedTuple):
    """One zone of the tree: `top` for a package or psys, not a part of one."""

    name: str
    scope: str
    top: bool
    energy_uj: Path
    counter_range: float | None

    @property
    def package(self) -> bool:
        return self.top and self.name.startswith("package")


class Survey(NamedTuple):
    """What can be read, what cannot (path to the reason), and whether all packages can."""

    counters: list[Counter]
    unreadable: dict[Path, str]
    packages_whole: bool


_open_files: list[Path] = []


def probe() -> dict[str, Any]:
    """The kernel's version; raises `Missing` where no counter can be read."""
    _survey(Path(SYSFS))
    return {"tools": {"linux": platform.release()}}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of energy counters in J that wrap at `counter_range`.

    Option `sysfs` is where the host's /sys is mounted. The `total` ones are the packages, whose sum
    is what the processors took. The others lie inside a package or around it, or are left out so
    that the total means the same on every machine: core and uncore are parts of their package; psys
    is the whole platform, packages included, on the few laptops that have it; dram is beside the
    package, on servers only. No channel is total where one package of several cannot be read:
    half a machine is not the machine. `notes` says what was left out and why.
    """
    unknown = sorted(set(options) - {"sysfs"})
    if unknown:
        msg = f"rapl has no option {unknown[0]!r}"
        raise BadInput(msg, hint="Known: sysfs.")
    survey = _survey(Path(options.get("sysfs", SYSFS)))
    notes = [f"{path}: {reason}" for path, reason in survey.unreadable.items()]
    packages = [counter for counter in survey.counters if counter.package]
    if packages and not survey.packages_whole:
        notes.append("no total: a package of this machine cannot be read")
    if not packages:
        notes.append("no total: no package zone can be read, only parts or the platform")
    _open_files[:] = [counter.energy_uj for counter in survey.counters]
    channels = [
        {
            "name": counter.name,
            "quantity": "energy",
            "unit": "J",
            "scope": counter.scope,
            "counter_range": counter.counter_range,
            "period_s": UPDATE_PERIOD_S,
            "total": counter.package and survey.packages_whole,
        }
        for counter in survey.counters
    ]
    return {"channels": channels, "notes": notes}


def read() -> list[float | None]:
    """Joules of every channel; None where the counter could not be read just now."""
    readings: list[float | None] = []
    for path in _open_files:
        try:
            readings.append(_joules(path))
        except (OSError, ValueError):
            readings.append(None)
    return readings


def close() -> None:
    """Forget the counters."""
    _open_files.clear()


def _joules(path: Path) -> float:
    return int(path.read_text(encoding="ascii")) / UJ_PER_J


def _survey(sysfs: Path) -> Survey:
    powercap = sysfs / "class" / "powercap"
    names = [path.name for path in powercap.iterdir()] if powercap.is_dir() else []
    zones = sorted(
        (int(match[1]), -1 if match[2] is None else int(match[2]), match[0])
        for match in map(ZONE.fullmatch, names)
        if match
    )
    if not zones:
        raise _no_zones(powercap)
    counters: list[Counter] = []
    unreadable: dict[Path, str] = {}
    packages: dict[int, str] = {}
    whole, denied = True, False
    for package, part, folder in zones:
        zone, top = powercap / folder, part < 0
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            if top:
                packages[package] = name
            _joules(zone / "energy_uj")
        except (OSError, ValueError) as err:
            denied = denied or isinstance(err, PermissionError)
            unreadable[zone / "energy_uj"] = _reason(err)
            whole = whole and not (top and packages.get(package, "package").startswith("package"))
            continue
        parent = packages.get(package, f"zone-{package}")
        counters.append(
            Counter(
                name=name if top else f"{parent}.{name}",
                scope=name if top else f"{parent} {name}",
                top=top,
                energy_uj=zone / "energy_uj",
                counter_range=_range(zone / "max_energy_range_uj"),
            )
        )
    if not counters:
        raise _nothing_readable(powercap, unreadable, denied=denied)
    return Survey(counters, unreadable, whole)


def _range(path: Path) -> float | None:
    """Where the counter starts again from 0, in J; None where the kernel does not say."""
    try:
        return _joules(path) or None
    except (OSError, ValueError):
        return None


def _reason(err: Exception) -> str:
    if isinstance(err, OSError):
        return err.strerror or type(err).__name__
    return f"not a number of microjoules: {err}"


def _nothing_readable(powercap: Path, unreadable: dict[Path, str], *, denied: bool) -> Missing:
    path, reason = next(iter(unreadable.items()))
    if denied:
        msg = (
            f"no permission to read {path}: since Linux 5.10 only root may read RAPL counters"
            " (CVE-2020-8694)"
        )
        return Missing(msg, hint=f"sudo chmod -R a+r {powercap}/intel-rapl*")
    msg = f"RAPL zones are listed but cannot be read ({path}: {reason})"
    hint = (
        "In a container the runtime hides them: mount the host's /sys at another path and set the"
        " instrument's option sysfs to it."
    )
    return Missing(msg, hint=hint)


def _no_zones(powercap: Path) -> Missing:
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64", "i686"):
        msg = f"a processor of kind {machine} has no RAPL counters"
        return Missing(msg, hint="Use a meter, or the board's own sensors with hwmon.")
    if _virtual():
        msg = f"this is a virtual machine, and it is shown no RAPL counters (no zone in {powercap})"
        return Missing(msg, hint="Measure energy on the bare machine, or with an external meter.")
    msg = f"the kernel shows no RAPL counters: no intel-rapl zone in {powercap}"
    return Missing(msg, hint="sudo modprobe intel_rapl_msr")


def _virtual() -> bool:
    """Whether the processor says that a hypervisor runs it."""
    try:
        text = Path(CPUINFO).read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"(?m)^flags\s*:.*\bhypervisor\b", text) is not None
