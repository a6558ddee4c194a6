# /// script
# requires-python = ">=3.8"
# dependencies = []
# ///
"""HailoRT: power, temperature and clock of a Hailo-8 module, from the sensors that it carries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# What the sensor takes: its conversion times in us, and of how many a value is the mean.
PERIODS_US = (140, 204, 332, 588, 1100, 2116, 4156, 8244)
AVERAGINGS = (1, 4, 16, 64, 128, 256, 512, 1024)
OPTIONS = {"device_id": "", "sampling_period_us": 140, "averaging": 16}
# A value takes as many conversions of the bus's voltage as of the shunt's.
CONVERSIONS = 2
# Temperature and clock move slowly, and each reading is a message to the chip's firmware.
SLOW_S = 0.5
# How much of the time polled the values must cover, the last of them being under way at its end;
# and how many may be lost in a row.
ENOUGH, UNDER_WAY, MOST_LOST = 0.95, 2, 20
# How long a sensor that was started may take to its first value: some values, and some time.
FIRST_VALUES, FIRST_S = 2.5, 0.2
MOST_FAILED = 100
KILO, MEGA = 10**3, 10**6
SWITCH = {False: "disabled", True: "enabled"}
NOT_TOTAL = (
    "no total: an evaluation board has no sensor of the whole; power is the sum of VDD_CORE,"
    " MIPI_AVDD and AVDD_H, about what the chip takes"
)
NO_SENSOR = "its firmware reads no power sensor on this board"
NO_SENSOR_HINT = (
    "M.2 and mPCIe modules and the evaluation board have one (INA231); boards with the chip"
    " soldered on may not. Put a meter into its supply and read that, by the instrument hwmon."
)
NO_PYTHON_HINT = (
    "Name a Python with HailoRT 4.23's package in EDGEDEPLOY_PYTHON_INSTRUMENT_HAILO"
    " (Raspberry Pi OS: sudo apt install hailo-all, then /usr/bin/python3)."
)
NO_CHIP_HINT = (
    "hailortcli fw-control identify must show it first: driver, library and firmware of one"
    " version. Beside a running hailort_service its power cannot be read."
)


class Missing(Exception):
    """There is nothing to read here; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class State(NamedTuple):
    """What the chip says of itself at one moment; None where it does not."""

    clock_hz: float | None
    temperature_c: float | None
    throttling: bool | None

    def told(self, after: State) -> list[str]:
        """Notes on what should not have changed meanwhile, and did."""
        notes = []
        if self.clock_hz and after.clock_hz and self.clock_hz != after.clock_hz:
            before_mhz, after_mhz = self.clock_hz / MEGA, after.clock_hz / MEGA
            notes.append(f"neural core clock: {before_mhz:g} MHz before, {after_mhz:g} MHz after")
        if None not in (self.throttling, after.throttling) and self.throttling != after.throttling:
            switches = SWITCH[self.throttling], SWITCH[after.throttling]
            notes.append("throttling by heat or current: {} before, {} after".format(*switches))
        return notes


class Slow:
    """A quantity asked for every `SLOW_S`; in between the last answer stands."""

    def __init__(self, value: Callable[[], float]) -> None:
        self.value = value
        self.due = 0.0
        self.last: float | None = None

    def read(self) -> float | None:
        now = time.perf_counter()
        if now >= self.due:
            self.due, self.last = now + SLOW_S, None
            self.last = self.value()
        return self.last


class Chip:
    """One chip, opened, and what is asked of it."""

    def __init__(self, hailo: ModuleType, device_id: str) -> None:
        self.hailo = hailo
        self.device = hailo.Device(device_id)
        self.control = self.device.control
        self.buffer = hailo.MeasurementBufferIndex.MEASUREMENT_BUFFER_INDEX_0

    def temperature_c(self) -> float:
        found = self.control.get_chip_temperature()
        return float(found.ts0_temperature + found.ts1_temperature) / 2

    def clock_hz(self) -> float:
        return float(self.control.get_extended_device_information().neural_network_core_clock_rate)

    def state(self) -> State:
        asked: list[Any] = []
        for ask in (self.clock_hz, self.temperature_c, self.control.get_throttling_state):
            try:
                asked.append(ask())
            except self.hailo.HailoRTException:
                asked.append(None)
        return State(*asked)

    def takes(self, rail: str) -> bool:
        """Whether the board measures this rail; what was measured before is ended and gone."""
        try:
            self.control.stop_power_measurement()
            self.control.set_power_measurement(
                buffer_index=self.buffer,
                dvm=getattr(self.hailo.DvmTypes, rail),
                measurement_type=self.hailo.PowerMeasurementTypes.POWER,
            )
        except self.hailo.HailoRTException:
            return False
        return True

    def starts(self, sampling_period_us: int, averaging: int) -> bool:
        """Whether the sensor begins to measure what was set last."""
        factor = getattr(self.hailo.AveragingFactor, f"AVERAGE_{averaging}")
        period = getattr(self.hailo.SamplingPeriod, f"PERIOD_{sampling_period_us}us")
        try:
            self.control.start_power_measurement(averaging_factor=factor, sampling_period=period)
        except self.hailo.HailoRTException:
            return False
        return True


class Power:
    """A running measurement of power; `total` where it is of all that the module takes."""

    def __init__(self, chip: Chip, period_s: float, *, total: bool) -> None:
        self.chip = chip
        self.period_s = period_s
        self.total = total
        self.count_anew()

    def count_anew(self) -> None:
        """Count time and values from now on."""
        self.begun = self.before = time.perf_counter()
        self.values = 0
        self.covered_s = self.waited_s = self.longest_s = 0.0

    def read(self) -> float | None:
        """Mean power, W, of the values that came since the last call; None where none came."""
        control, buffer = self.chip.control, self.chip.buffer
        found = control.get_power_measurement(buffer_index=buffer, should_clear=True)
        now = time.perf_counter()
        self.waited_s += now - self.before
        self.before = now
        count = int(found.total_number_of_samples)
        if count == 0:
            return None
        each_s = float(found.average_time_value_milliseconds) / KILO
        covered_s = count * (each_s if each_s > 0 else self.period_s)
        self.values += count
        self.covered_s += covered_s
        self.longest_s = max(self.longest_s, self.waited_s - covered_s)
        self.waited_s = 0.0
        return float(found.average_value)

    def comes(self) -> bool:
        """Whether a first value comes in time."""
        until = self.begun + FIRST_S + FIRST_VALUES * self.period_s
        wait_s = self.period_s
        while time.perf_counter() < until:
            time.sleep(wait_s)
            if self.read() is not None:
                self.count_anew()
                return True
            wait_s *= 2
        return False

    def losses(self) -> list[str]:
        """Notes on the values that were lost."""
        polled_s = self.before - self.begun
        longest_s = max(self.longest_s, self.waited_s)
        notes = []
        if self.covered_s < ENOUGH * polled_s - UNDER_WAY * self.period_s:
            part = 100 * self.covered_s / polled_s
            notes.append(
                f"power: the sensor's {self.values} values cover {part:.0f} % of the"
                f" {polled_s:.3g} s it was polled for; the rest was not measured"
            )
        if longest_s > MOST_LOST * self.period_s:
            notes.append(f"power: no value for {longest_s:.3g} s (one each {self.period_s:.3g} s)")
        return notes

    def end(self) -> list[str]:
        """Stop, after a last reading: stopping deletes what was taken. Notes on what was lost."""
        notes = []
        try:
            self.read()
        except self.chip.hailo.HailoRTException as err:
            notes.append(f"power: the last reading failed: {err}")
        notes += self.losses()
        if self.total:
            notes.append(
                "power: its sensor is that of the module's overcurrent protection, which was off"
                " meanwhile"
            )
        try:
            self.chip.control.stop_power_measurement()
        except self.chip.hailo.HailoRTException as err:
            notes.append(f"power: the sensor could not be stopped: {err}")
        return notes


class Reader:
    """A chip being read: its channels in their order, and how it was when that began."""

    def __init__(self, chip: Chip, sampling_period_us: int, averaging: int) -> None:
        self.chip = chip
        self.before = chip.state()
        self.power = _power(chip, sampling_period_us, averaging)
        self.gauges: dict[str, Power | Slow] = {}
        self.channels: list[dict[str, Any]] = []
        if self.power is not None:
            scope = "module" if self.power.total else "core"
            self.add("power", "W", self.power, scope, self.power.period_s)
        if self.before.temperature_c is not None:
            self.add("temperature", "°C", Slow(chip.temperature_c), "chip", SLOW_S)
        if self.before.clock_hz is not None:
            self.add("clock", "Hz", Slow(chip.clock_hz), "neural core", SLOW_S)
        self.failed = 0

    def add(self, name: str, unit: str, gauge: Power | Slow, scope: str, period_s: float) -> None:
        said = {"name": name, "quantity": name, "unit": unit, "scope": scope, "period_s": period_s}
        self.channels.append({**said, "counter_range": None, "total": scope == "module"})
        self.gauges[name] = gauge

    def read(self) -> list[float | None]:
        """One number a channel. Raises what the chip raises once it has failed for long."""
        readings: list[float | None] = []
        failure = None
        for gauge in self.gauges.values():
            try:
                readings.append(gauge.read())
            except self.chip.hailo.HailoRTException as err:
                readings.append(None)
                failure = err
        self.failed = self.failed + 1 if failure is not None else 0
        if failure is not None and self.failed >= MOST_FAILED:
            raise failure
        return readings

    def end(self) -> list[str]:
        """Let the chip go; notes on what was lost, and on how it was before and after."""
        try:
            notes = self.power.end() if self.power is not None else []
            return notes + self.before.told(self.chip.state())
        finally:
            self.chip.device.release()


_readers: list[Reader] = []


def probe() -> dict[str, Any]:
    """The version of HailoRT's package; raises `Missing` where it or a chip is not there."""
    hailo = _library()
    _scan(hailo)
    return {"tools": {"hailort": hailo.__version__}}


def open(options: dict[str, Any]) -> dict[str, Any]:
    """Channels of one chip: power (W), temperature (°C, mean of two sensors), core clock (Hz).

    Options: `device_id` as HailoRT lists it (else the first), `sampling_period_us` and `averaging`
    of the power sensor, which gives a value every 2 x period x averaging. A reading is the mean of
    the values since the one before. On a module the sensor stands for the whole module: scope
    `module`, and total. On an evaluation board three rails are added up: scope `core`, not total.
    Where there is no sensor the other channels are given, and `notes` says so. To be called in
    another process than the one that infers. Raises `Missing` where there is nothing to read.
    """
    chosen = _checked(options)
    close()
    hailo = _library()
    device_id = _chosen_id(hailo, chosen.pop("device_id"))
    try:
        chip = Chip(hailo, device_id)
    except Exception as err:  # the library lets some of its statuses out bare
        msg = f"HailoRT cannot open the chip {device_id}: {err}"
        raise Missing(msg, hint=NO_CHIP_HINT) from err
    try:
        reader = Reader(chip, **chosen)
        if not reader.channels:
            msg = f"{device_id} tells no temperature and no clock, and {NO_SENSOR}"
            raise Missing(msg, hint=f"{NO_CHIP_HINT} {NO_SENSOR_HINT}")
    except BaseException:
        chip.device.release()
        raise
    _readers.append(reader)
    notes = []
    if reader.power is None:
        notes.append(f"no power: {NO_SENSOR}. {NO_SENSOR_HINT}")
    elif not reader.power.total:
        notes.append(NOT_TOTAL)
    answer: dict[str, Any] = {"channels": reader.channels, "notes": notes}
    standin = "standin" in hailo.__version__.partition("+")[2]
    return {**answer, "virtual": True} if standin else answer


def read() -> list[float | None]:
    """One number a channel; None where the chip gave none just now.

    Raises HailoRT's exception once it has refused a hundred times in a row.
    """
    return [reading for reader in _readers for reading in reader.read()]


def close() -> dict[str, Any]:
    """Stop the sensor and let the chip go; `notes` on losses, and on a clock that changed."""
    notes: list[str] = []
    while _readers:
        notes += _readers.pop().end()
    return {"notes": notes}


def _library() -> ModuleType:
    try:
        import hailo_platform
    except ImportError as err:  # not there, or of another version than the library
        msg = f"HailoRT's Python package hailo_platform cannot be imported: {err}"
        raise Missing(msg, hint=NO_PYTHON_HINT) from err
    module: ModuleType = hailo_platform
    return module


def _scan(hailo: ModuleType) -> list[str]:
    try:
        found = list(hailo.Device.scan())
    except Exception as err:  # the library lets this status out bare
        msg = f"HailoRT cannot look for chips: {err}"
        raise Missing(msg, hint=NO_CHIP_HINT) from err
    if not found:
        msg = "HailoRT sees no chip on this host"
        raise Missing(msg, hint=NO_CHIP_HINT)
    return found


def _chosen_id(hailo: ModuleType, wanted: object) -> str:
    found = _scan(hailo)
    if wanted in ("", *found):
        return str(wanted or found[0])
    msg = f"option device_id is {wanted!r}, and HailoRT sees {', '.join(found)}"
    raise BadInput(msg, hint="Give one that hailortcli scan lists, or leave it out.")


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        msg = f"hailo has no option {unknown[0]!r}"
        raise BadInput(msg, hint=f"Known: {', '.join(OPTIONS)}.")
    chosen = {**OPTIONS, **options}
    for name, allowed in (("sampling_period_us", PERIODS_US), ("averaging", AVERAGINGS)):
        if type(chosen[name]) is not int or chosen[name] not in allowed:
            msg = f"option {name} is {chosen[name]!r}, which the sensor does not have"
            raise BadInput(msg, hint=f"One of {', '.join(str(value) for value in allowed)}.")
    return chosen


def _power(chip: Chip, sampling_period_us: int, averaging: int) -> Power | None:
    """The running measurement of the scope that this board has; None without a sensor."""
    period_s = CONVERSIONS * sampling_period_us * averaging / MEGA
    # only an evaluation board has rails of their own, and a sum of them
    parts = chip.takes("VDD_CORE")
    rail = "AUTO" if parts else "OVERCURRENT_PROTECTION"
    if not chip.takes(rail) or not chip.starts(sampling_period_us, averaging):
        return None
    power = Power(chip, period_s, total=not parts)
    if power.comes():
        return power
    power.end()
    return None
