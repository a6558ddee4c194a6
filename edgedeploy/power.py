"""Power and energy of a measurement: which channels, over which windows, gross and net of idle."""

from typing import NamedTuple

from edgedeploy.energy import (
    RawSeries,
    Reading,
    counter_delta,
    counter_period_s,
    too_short,
    trapezoid_energy,
    update_period_s,
)
from edgedeploy.records import Figure, Measurement, Phase, Series, Source, Window

UNITS = {"energy": "J", "power": "W"}

DEVICE_CLOCK = "device"
ON_DEVICE = (
    "the device timed itself, and this host's window holds its line too: an instrument on the"
    " marker pin tells the inferences alone"
)


class _Chosen(NamedTuple):
    """What one set of channels gave: J over the latency window, W over the idle one."""

    gross_j: Reading
    idle_w: Reading


def power_figures(measurement: Measurement, series: RawSeries) -> dict[str, Figure]:
    """`power_*_w` and `energy_per_inference_*j`, or why they are null.

    All of them are of the latency window, one inference in flight, so power times time is energy;
    under saturation a device does another amount of work at once, and is not mixed in. Net is less
    the mean power of the idle window. A window too short for a sensor's updates gives null, and how
    long it must be. An instrument's total channels stand for the whole device
    together, so the first instrument that has them is used alone, never two added up; counters go
    before power samples, as they miss nothing between readings.
    """
    source = measurement.source
    latency, idle = _window(measurement, "latency"), _window(measurement, "idle")
    chosen = _choose(measurement, series, latency, idle)
    length_s = (latency.end_ns - latency.start_ns) / 1e9 if latency else 0.0
    count = latency.count if latency else 0
    idle_j = _scaled(chosen.idle_w, length_s)
    net_j = _net(chosen.gross_j, idle_j)
    per_second = 1 / length_s if length_s > 0 else 0.0
    return {
        "power_w": _figure(_scaled(chosen.gross_j, per_second), "W", source),
        "power_net_w": _figure(_scaled(net_j, per_second), "W", source),
        "power_idle_w": _figure(chosen.idle_w, "W", source),
        "energy_per_inference_j": _figure(_shared(chosen.gross_j, count), "J", source),
        "energy_per_inference_net_j": _figure(_shared(net_j, count), "J", source),
    }


def _choose(
    measurement: Measurement, series: RawSeries, latency: Window | None, idle: Window | None
) -> _Chosen:
    """The first set of channels that gives the energy, else the first that gives idle power."""
    groups = _groups(measurement.series)
    if groups and any(s.clock == DEVICE_CLOCK for s in measurement.series):
        return _Chosen(Reading(None, ON_DEVICE), _idle_w(groups[0], idle, series))
    if not groups:
        missing = Reading(None, _no_channels(measurement))
        return _Chosen(missing, missing)
    tried = [
        _Chosen(_energy_j(group, latency, "latency", series), _idle_w(group, idle, series))
        for group in groups
    ]
    with_gross = [chosen for chosen in tried if chosen.gross_j.value is not None]
    with_idle = [chosen for chosen in tried if chosen.idle_w.value is not None]
    if with_gross:
        return with_gross[0]
    reasons = "; ".join(dict.fromkeys(chosen.gross_j.reason or "" for chosen in tried))
    idle_w = with_idle[0].idle_w if with_idle else tried[0].idle_w
    return _Chosen(Reading(None, reasons), idle_w)


def _groups(series: tuple[Series, ...]) -> list[list[Series]]:
    """Sets of channels that each stand for the whole device, in the order they are tried."""
    totals = [s for s in series if s.total and s.quantity in UNITS]
    groups: list[list[Series]] = []
    for instrument in dict.fromkeys(s.instrument for s in totals):
        for quantity in UNITS:
            group = [s for s in totals if s.instrument == instrument and s.quantity == quantity]
            groups += [group] if group else []
    return groups


def _no_channels(measurement: Measurement) -> str:
    parts = [f"{s.instrument} {s.scope}" for s in measurement.series if s.quantity in UNITS]
    if parts:
        return f"no channel stands for the whole device; there are {', '.join(parts)}"
    read = [m for m in measurement.missed if m.what != "timing"]
    missed = "; ".join(f"{m.what}: {m.reason}" for m in read)
    return f"no instrument read power ({missed})" if missed else "no instrument read power"


def _energy_j(
    group: list[Series], window: Window | None, phase: Phase, series: RawSeries
) -> Reading:
    """The sum of a set of channels over a window, or the reason of the first that has none."""
    if window is None:
        return Reading(None, f"there is no {phase} window")
    total = 0.0
    for channel in group:
        reading = _channel_j(channel, window, series)
        if reading.value is None:
            where = f"{channel.instrument} {channel.scope}, {phase}"
            return Reading(None, f"{where}: {reading.reason}")
        total += reading.value
    return Reading(total)


def _channel_j(channel: Series, window: Window, series: RawSeries) -> Reading:
    if channel.clock != window.clock:
        return Reading(
            None, f"its clock {channel.clock!r} is not the window's clock {window.clock!r}"
        )
    if channel.unit != UNITS[channel.quantity]:
        return Reading(None, f"its unit is {channel.unit!r}, expected {UNITS[channel.quantity]!r}")
    if channel.key not in series:
        return Reading(None, f"its raw series {channel.key!r} is not in the run's series file")
    t_ns, values = series[channel.key]
    start, end = window.start_ns, window.end_ns
    counts = channel.quantity == "energy"
    period_s = (
        counter_period_s(t_ns, values, start, end, channel.period_s)
        if counts
        else update_period_s(t_ns, values, channel.period_s)
    )
    short = too_short(start, end, period_s, channel.quantity, channel.window_s)
    if short:
        return Reading(None, short)
    if counts:
        return counter_delta(t_ns, values, start, end, channel.counter_range)
    return trapezoid_energy(t_ns, values, start, end)


def _idle_w(group: list[Series], idle: Window | None, series: RawSeries) -> Reading:
    energy = _energy_j(group, idle, "idle", series)
    return _scaled(energy, 1e9 / (idle.end_ns - idle.start_ns)) if idle and energy.value else energy


def _net(gross_j: Reading, idle_j: Reading) -> Reading:
    if gross_j.value is None or idle_j.value is None:
        return gross_j if gross_j.value is None else idle_j
    net = gross_j.value - idle_j.value
    if net <= 0:
        return Reading(
            None,
            f"idling over the latency window's time takes {idle_j.value:.3g} J, inference"
            f" {gross_j.value:.3g} J: the idle window was not idle, or the difference is too small",
        )
    return Reading(net)


def _shared(energy_j: Reading, count: int) -> Reading:
    if energy_j.value is not None and not count:
        return Reading(None, "no inference finished in the latency window")
    return _scaled(energy_j, 1 / count if count else 0.0)


def _scaled(reading: Reading, factor: float) -> Reading:
    return reading if reading.value is None else Reading(reading.value * factor)


def _figure(reading: Reading, unit: str, source: Source) -> Figure:
    if reading.value is None:
        return Figure(value=None, unit=unit, reason=reading.reason)
    return Figure(value=reading.value, unit=unit, source=source)


def _window(measurement: Measurement, phase: Phase) -> Window | None:
    return next((w for w in measurement.windows if w.phase == phase), None)
