# /// script
# requires-python = ">=3.8"
# dependencies = ["nvidia-ml-py>=12.535,<14"]
# ///
"""NVML: energy, temperature and clock of an NVIDIA GPU board, from its driver."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# The counter and the power reading move every 20 to 100 ms, depending on the board.
UPDATE_PERIOD_S = 0.1
# nvmlDeviceGetPowerUsage averages over 1 s on Ampere and later, but for GA100, which is compute
# capability 8.0 (NVML API reference, nvmlDeviceGetPowerUsage).
AVERAGED_OVER_S = 1.0
NEWEST_INSTANT = (8, 0)
MILLI = 1000
MEGA = 10**6
ELSEWHERE = "On a Jetson the board's own sensors tell: use the instrument hwmon."


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
    """One quantity of a board; `value` reads it in `unit`."""

    name: str
    quantity: str
    unit: str
    period_s: float
    scope: str
    value: Callable[[], float]


_gauges: list[Gauge] = []


def probe() -> dict[str, Any]:
    """Versions of the binding and the driver; raises `Missing` where either is not there."""
    pynvml = _start()
    try:
        _any_readable(pynvml)
        tools = {"nvidia-driver": _text(pynvml.nvmlSystemGetDriverVersion())}
    finally:
        pynvml.nvmlShutdown()
    try:
        tools["nvidia-ml-py"] = importlib.metadata.version("nvidia-ml-py")
    except importlib.metadata.PackageNotFoundError:
        tools["nvidia-ml-py"] = "not installed as a package"
    return {"tools": tools}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of one GPU: energy (J) or power (W), temperature (°C) and SM clock (Hz).

    Option `device` is NVML's index, in the order of the PCI bus (CUDA's may differ). Energy is the
    board's counter since its driver was loaded, where there is one (Volta and later); else power as
    it is now; else power averaged over the last second, which its scope says. The board is more
    than the chip: memory and regulators are in it. Where MIG splits the GPU the counter is that of
    all instances: scope `shared`, and not total. `notes` says what cannot be had. Raises `Missing`
    where the driver is not there or supports none of these, as on a Jetson.
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
        gauges, notes = _find(pynvml, handle, "shared" if shared else f"gpu-{index} board")
    except BaseException:
        pynvml.nvmlShutdown()
        raise
    if shared:
        notes.append("no total: MIG splits this GPU, and its readings are of all instances")
    _gauges[:] = gauges
    channels = [
        {
            "name": gauge.name,
            "quantity": gauge.quantity,
            "unit": gauge.unit,
            "scope": gauge.scope,
            "counter_range": None,
            "period_s": gauge.period_s,
            "total": gauge.quantity in ("energy", "power") and not shared,
        }
        for gauge in gauges
    ]
    return {"channels": channels, "notes": notes}


def read() -> list[float | None]:
    """One number a channel; None where the driver gave none just now.

    Raises `NVMLError_GpuIsLost` when there is no board any more.
    """
    import pynvml

    readings: list[float | None] = []
    for gauge in _gauges:
        try:
            readings.append(gauge.value())
        except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_Uninitialized):
            raise
        except pynvml.NVMLError:
            readings.append(None)
    return readings


def close() -> None:
    """Let the driver go, if it is held."""
    if _gauges:
        import pynvml

        _gauges.clear()
        pynvml.nvmlShutdown()


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


def _find(pynvml: ModuleType, handle: object, scope: str) -> tuple[list[Gauge], list[str]]:
    """The gauges that give a number now, and notes on what is not to be had."""
    gauges: list[Gauge] = []
    notes: list[str] = []
    for gauge in _candidates(pynvml, handle, scope):
        if gauge.quantity == "power" and any(g.quantity in ("energy", "power") for g in gauges):
            continue
        try:
            gauge.value()
        except pynvml.NVMLError as err:
            notes.append(f"{gauge.name}: {err}")
        else:
            gauges.append(gauge)
    if not gauges:
        name = _text(pynvml.nvmlDeviceGetName(handle))
        msg = f"the driver of {name} tells no energy, power, temperature or clock ({notes[0]})"
        raise Missing(msg, hint=ELSEWHERE)
    if not any(gauge.quantity in ("energy", "power") for gauge in gauges):
        notes.append(f"no total: the driver tells neither energy nor power. {ELSEWHERE}")
    return gauges, notes


def _candidates(pynvml: ModuleType, handle: object, scope: str) -> list[Gauge]:
    """All that may be had of a board, the better first; of energy and power only one is used."""

    def energy_j() -> float:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / MILLI)

    def power_w() -> float:
        field = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
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
        averaged = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)) > NEWEST_INSTANT
    except pynvml.NVMLError:
        averaged = True
    usage_s = AVERAGED_OVER_S if averaged else UPDATE_PERIOD_S
    usage_scope = f"{scope}, mean of the last second" if averaged else scope
    return [
        Gauge("energy", "energy", "J", UPDATE_PERIOD_S, scope, energy_j),
        Gauge("power", "power", "W", UPDATE_PERIOD_S, scope, power_w),
        Gauge("power_usage", "power", "W", usage_s, usage_scope, usage_w),
        Gauge("temperature", "temperature", "°C", UPDATE_PERIOD_S, scope, temperature_c),
        Gauge("sm_clock", "clock", "Hz", UPDATE_PERIOD_S, scope, clock_hz),
    ]


def _text(value: object) -> str:
    """A name, which older bindings give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
