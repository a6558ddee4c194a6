"""What this host says of itself and of this process: processor, clocks, load, temperatures, memory.

Standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import os
import platform
from typing import Any, Dict, Optional


def resident_bytes() -> Optional[int]:
    """Resident size of this process now; None where the system does not tell."""
    return _status("VmRSS:")


def peak_bytes() -> Optional[int]:
    """Peak resident size since `reset_peak`; None where the system does not tell."""
    return _status("VmHWM:")


def reset_peak() -> bool:
    """Forget the peak so far (Linux: `5` to clear_refs); whether that was possible."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _status(field: str) -> Optional[int]:
    text = read_text("/proc/self/status")
    for line in (text or "").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def read_text(path: str) -> Optional[str]:
    """The stripped text of a small system file, or None where it is absent or unreadable."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip().strip("\0")
    except OSError:
        return None


def host_facts() -> Dict[str, Any]:
    """What may explain a timing: CPU, governor, clocks, temperatures, load, affinity, memory."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    policy = "/sys/devices/system/cpu/cpu%d/cpufreq/" % (cpus[0] if cpus else 0)
    information = read_text("/proc/cpuinfo") or ""
    fields: Dict[str, str] = {}
    for line in information.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    clock_hz = _number(read_text(policy + "scaling_cur_freq"), 1e3)
    if clock_hz is None:
        clock_hz = _number(fields.get("cpu MHz"), 1e6)
    memory = read_text("/proc/meminfo") or ""
    total = next((x.split()[1] for x in memory.splitlines() if x.startswith("MemTotal")), None)
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "board": read_text("/proc/device-tree/model"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "affinity": cpus,
        "governor": read_text(policy + "scaling_governor"),
        "clock_hz": clock_hz,
        "virtual_machine": "hypervisor" in fields.get("flags", "").split(),
        "temperatures_c": _temperatures(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory_total_bytes": int(total) * 1024 if total else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _number(text: Optional[str], factor: float) -> Optional[float]:
    """A system file's number; None for what some kernels write instead of one ("<unknown>")."""
    try:
        return float(text) * factor if text else None
    except ValueError:
        return None


def _temperatures() -> Dict[str, float]:
    found: Dict[str, float] = {}
    root = "/sys/class/thermal"
    zones = sorted(os.listdir(root)) if os.path.isdir(root) else []
    for zone in zones:
        value = read_text(os.path.join(root, zone, "temp"))
        kind = read_text(os.path.join(root, zone, "type")) or zone
        if zone.startswith("thermal_zone") and value and value.lstrip("-").isdigit():
            found.setdefault(kind, int(value) / 1000)
    return found
