# /// script
# requires-python = ">=3.8"
# dependencies = ["nvidia-ml-py>=12.535,<14"]
# ///
"""NVML: energy, temperature and clock of an NVIDIA GPU board, from its driver."""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# The counter and the power reading move every 20 to 100 ms, depending on the board.
UPDATE_PERIOD_S = 0.1
# The counter's own period is measured: how often it must be seen to move, how long that may take,
# and how long to sleep between two looks.
MOVES = 10
FEWEST_MOVES = 3
WATCHED_S = 5.0
LOOK_S = 0.001
# nvmlDeviceGetPowerUsage averages over 1 s on Ampere and later, but for GA100, which is compute
# capability 8.0 (NVML API reference, nvmlDeviceGetPowerUsage).
AVERAGED_OVER_S = 1.0
NEWEST_INSTANT = (8, 0)
# Of NVML_POWER_SCOPE_GPU, _MODULE (a superchip's CPU too) and _MEMORY.
POWER_SCOPE_GPU = 0
# A100 (8.0) and H100 (9.0) look at their power for 25 ms of each 100 ms (arXiv 2312.02741).
PART_TIME = ((8, 0), (9, 0))
PART_TIME_WINDOW_S = 5.0
PART_TIME_NOTE = (
    "{} is of a generation whose power sensor, and so its energy counter, was found to look 25 % of"
    " the time (arXiv 2312.02741, A100 and H100): windows of 5 s or more"
)
# Why a clock is held below what was asked for (nvml.h, nvmlClocksEventReasons).
SLOWDOWNS = {
    0x04: "the power limit",
    0x08: "the hardware (heat, or power brake)",
    0x20: "heat, by the driver",
    0x40: "heat, by the hardware",
    0x80: "an external power brake",
}
MILLI = 1000
MEGA = 10**6
ELSEWHERE = "On a Jetson the board's own sensors tell: use the instrument jetson."


class Missing(Exception):
    """There is no GPU to read here; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Gauge(NamedTuple):
    """One quantity of a board; `value` reads it in `unit`, with a mean it can be relied on from
    `window_s` on."""

    name: str
    quantity: str
    unit: str
    period_s: float
    scope: str
    value: Callable[[], float | None]
    window_s: float | None = None


class Slow:
    """A quantity asked for every `UPDATE_PERIOD_S`; in between the last answer stands."""

    def __init__(self, value: Callable[[], float]) -> None:
        self.value = value
        self.due = 0.0
        self.last: float | None = None

    def __call__(self) -> float | None:
        now = time.perf_counter()
        if now >= self.due:
            self.due, self.last = now + UPDATE_PERIOD_S, None
            self.last = self.value()
        return self.last


class Slowdowns:
    """How often a board said that its clocks were held down, and why."""

    def __init__(self, pynvml: ModuleType, handle: object) -> None:
        self.pynvml = pynvml
        self.handle = handle
        self.looks = 0
        self.seen = dict.fromkeys(SLOWDOWNS, 0)

    def look(self) -> float:
        """Ask the board once; nothing comes of it until the end."""
        reasons = self.pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle)
        self.looks += 1
        for bit in SLOWDOWNS:
            self.seen[bit] += bool(reasons & bit)
        return float(reasons)

    def told(self) -> list[str]:
        return [
            f"clocks were held down by {why} in {100 * self.seen[bit] / self.looks:.0f} % of"
            f" {self.looks} looks"
            for bit, why in SLOWDOWNS.items()
            if self.seen[bit]
        ]


_gauges: list[Gauge] = []
_watches: list[tuple[Slowdowns, Slow]] = []


def probe() -> dict[str, Any]:
    """Versions of the binding and the driver; raises `Missing` where either is not there."""
    pynvml = _start()
    try:
        _any_readable(pynvml)
        tools = {"nvidia-driver": _text(pynvml.nvmlSystemGetDriverVersion())}
    finally:
        pynvml.nvmlShutdown()
    return {"tools": {**tools, "nvidia-ml-py": _version(pynvml)}}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of one GPU: energy (J) or power (W), temperature (°C) and SM clock (Hz).

    Option `device` is NVML's index, in the order of the PCI bus (CUDA's may differ). Energy is the
    board's counter since its driver was loaded, where there is one (Volta and later) and it moves:
    its period is measured, for up to 5 s, and `period_s` is what was found. Else power as it is
    now; else power averaged over the last second, which its scope says. The board is more than the
    chip: memory and regulators are in it. Where MIG splits the GPU the counter is that of all
    instances: scope `shared`, and not total. `window_s` is the shortest window the readings can be
    relied on over, where one is known. `bus_id` says which GPU it is, for one that another is asked
    of to be told from it (CUDA_VISIBLE_DEVICES counts for CUDA alone). `notes` says what cannot be
    had. Raises `Missing` where the
    driver is not there or supports none of these, as on a Jetson.
    """
    unknown = sorted(set(options) - {"device"})
    if unknown:
        msg = f"nvml has no option {unknown[0]!r}"
        raise BadInput(msg, hint="Known: device.")
    close()
    pynvml = _start()
    try:
        index = options.get("device", 0)
        handle = _handle(pynvml, index)
        shared = _is_split(pynvml, handle)
        scope = "shared" if shared else f"gpu-{index} board"
        gauges, notes = _find(pynvml, handle, scope, usable=_usable)
        watch = Slowdowns(pynvml, handle)
        bus = _bus_id(pynvml, handle)
    except BaseException:
        pynvml.nvmlShutdown()
        raise
    if any(gauge.window_s for gauge in gauges):
        notes.append(PART_TIME_NOTE.format(_text(pynvml.nvmlDeviceGetName(handle))))
    if shared:
        notes.append("no total: MIG splits this GPU, and its readings are of all instances")
    _gauges[:] = gauges
    _watches[:] = [(watch, Slow(watch.look))]
    channels = [
        {
            "name": gauge.name,
            "quantity": gauge.quantity,
            "unit": gauge.unit,
            "scope": gauge.scope,
            "counter_range": None,
            "period_s": gauge.period_s,
            "window_s": gauge.window_s,
            "total": gauge.quantity in ("energy", "power") and not shared,
        }
        for gauge in gauges
    ]
    answer: dict[str, Any] = {"channels": channels, "notes": notes, "bus_id": bus}
    return {**answer, "virtual": True} if "+" in _version(pynvml) else answer


def read() -> list[float | None]:
    """One number a channel; None where the driver gave none just now.

    Raises `NVMLError_GpuIsLost` when there is no board any more.
    """
    import pynvml

    readings: list[float | None] = []
    for value in (*(gauge.value for gauge in _gauges), *(slow for _, slow in _watches)):
        try:
            readings.append(value())
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_Uninitialized):
            raise
        except pynvml.NVMLError:
            readings.append(None)
    return readings[: len(_gauges)]


def close() -> dict[str, Any]:
    """Let the driver go, if it is held; `notes` on what held the clocks down meanwhile."""
    notes = [note for watch, _ in _watches for note in watch.told()]
    if _gauges:
        import pynvml

        _gauges.clear()
        _watches.clear()
        pynvml.nvmlShutdown()
    return {"notes": notes}


def _start() -> ModuleType:
    """The binding with the driver's library initialised."""
    try:
        import pynvml
    except ModuleNotFoundError as err:
        msg = "the Python package nvidia-ml-py is not installed"
        raise Missing(msg, hint="pip install nvidia-ml-py") from err
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound as err:
        msg = "no NVIDIA driver: the library libnvidia-ml was not found"
        raise Missing(msg, hint="Install the NVIDIA driver; nvidia-smi must list a GPU.") from err
    except pynvml.NVMLError_DriverNotLoaded as err:
        msg = "the NVIDIA driver is installed and not loaded"
        raise Missing(msg, hint="sudo modprobe nvidia") from err
    except pynvml.NVMLError as err:
        msg = f"the NVIDIA driver does not answer: {err}"
        raise Missing(msg, hint="Make nvidia-smi list a GPU first.") from err
    module: ModuleType = pynvml
    return module


def _no_gpu() -> Missing:
    msg = "the NVIDIA driver sees no GPU"
    return Missing(msg, hint="Make nvidia-smi list a GPU first; a container must be given one.")


def _any_readable(pynvml: ModuleType) -> None:
    """Raise `Missing` unless at least one GPU tells something."""
    reason = _no_gpu()
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            _find(pynvml, _handle(pynvml, index), "")
        except Missing as err:
            reason = err
        else:
            return
    raise reason


def _handle(pynvml: ModuleType, index: object) -> object:
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        raise _no_gpu()
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        msg = f"option device is {index!r}, and the driver sees {count} GPU(s)"
        raise BadInput(msg, hint=f"Give a number from 0 to {count - 1}.")
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as err:
        msg = f"GPU {index} cannot be used: {err}"
        raise Missing(msg, hint=f"nvidia-smi -i {index} must work first.") from err


def _is_split(pynvml: ModuleType, handle: object) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _bus_id(pynvml: ModuleType, handle: object) -> str | None:
    """The GPU's place on the PCI bus, as CUDA writes it: a domain of four digits."""
    try:
        said = _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
    except pynvml.NVMLError:
        return None
    domain, _, rest = said.partition(":")
    return f"{domain[-4:]}:{rest}".lower()


def _find(
    pynvml: ModuleType,
    handle: object,
    scope: str,
    usable: Callable[[Gauge], Gauge | None] = lambda gauge: gauge,
) -> tuple[list[Gauge], list[str]]:
    """The gauges that give a number now, and notes on what is not to be had."""
    gauges: list[Gauge] = []
    notes: list[str] = []
    for gauge in _candidates(pynvml, handle, scope):
        if gauge.quantity == "power" and any(g.quantity in ("energy", "power") for g in gauges):
            continue
        try:
            gauge.value()
            found = usable(gauge)
        except pynvml.NVMLError as err:
            notes.append(f"{gauge.name}: {err}")
            continue
        if found is None:
            notes.append(f"{gauge.name}: the counter did not move in {WATCHED_S:g} s; not used")
        else:
            gauges.append(found)
    if not gauges:
        name = _text(pynvml.nvmlDeviceGetName(handle))
        msg = f"the driver of {name} tells no energy, power, temperature or clock ({notes[0]})"
        raise Missing(msg, hint=ELSEWHERE)
    if not any(gauge.quantity in ("energy", "power") for gauge in gauges):
        notes.append(f"no total: the driver tells neither energy nor power. {ELSEWHERE}")
    return gauges, notes


def _usable(gauge: Gauge) -> Gauge | None:
    """A gauge with the period measured if it is a counter; None if that stands still."""
    if gauge.quantity != "energy":
        return gauge
    period_s = _measured_period_s(gauge.value)
    return None if period_s is None else gauge._replace(period_s=period_s)


def _measured_period_s(counter: Callable[[], float]) -> float | None:
    """Median time between a counter's moves, in s; None where it all but stands still."""
    moves: list[float] = []
    last, end = counter(), time.perf_counter() + WATCHED_S
    # n times between moves take n + 1 of them
    while len(moves) <= MOVES and time.perf_counter() < end:
        time.sleep(LOOK_S)
        value = counter()
        if value != last:
            moves.append(time.perf_counter())
            last = value
    if len(moves) < FEWEST_MOVES:
        return None
    return statistics.median(moves[i] - moves[i - 1] for i in range(1, len(moves)))


def _candidates(pynvml: ModuleType, handle: object, scope: str) -> list[Gauge]:
    """All that may be had of a board, the better first; of energy and power only one is used."""

    def energy_j() -> float:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / MILLI)

    def power_w() -> float:
        wanted = (pynvml.NVML_FI_DEV_POWER_INSTANT, POWER_SCOPE_GPU)
        field = pynvml.nvmlDeviceGetFieldValues(handle, [wanted])[0]
        if field.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(field.nvmlReturn)
        return float(field.value.uiVal / MILLI)

    def usage_w() -> float:
        return float(pynvml.nvmlDeviceGetPowerUsage(handle) / MILLI)

    def temperature_c() -> float:
        return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))

    def clock_hz() -> float:
        return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) * MEGA)

    try:
        capability: tuple[int, ...] = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    except pynvml.NVMLError:
        capability = ()
    window_s = PART_TIME_WINDOW_S if capability in PART_TIME else None
    averaged = not capability or capability > NEWEST_INSTANT
    usage_s = AVERAGED_OVER_S if averaged else UPDATE_PERIOD_S
    usage_scope = f"{scope}, mean of the last second" if averaged else f"{scope}, instant"
    return [
        Gauge("energy", "energy", "J", UPDATE_PERIOD_S, scope, energy_j, window_s),
        Gauge("power", "power", "W", UPDATE_PERIOD_S, f"{scope}, instant", power_w, window_s),
        Gauge("power_usage", "power", "W", usage_s, usage_scope, usage_w, window_s),
        Gauge("temperature", "temperature", "°C", UPDATE_PERIOD_S, scope, Slow(temperature_c)),
        Gauge("sm_clock", "clock", "Hz", UPDATE_PERIOD_S, scope, Slow(clock_hz)),
    ]


def _version(pynvml: ModuleType) -> str:
    """The binding's; a stand-in says its own in its `__version__`."""
    said = getattr(pynvml, "__version__", None)
    try:
        return str(said or importlib.metadata.version("nvidia-ml-py"))
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _text(value: object) -> str:
    """A name, which older bindings give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
