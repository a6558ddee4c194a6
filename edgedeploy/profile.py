"""Deployment + Plan -> Measurement: instruments around the one loop that times, clocks, facts."""

import base64
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgedeploy.calibrate import save_arrays
from edgedeploy.deployment import Session
from edgedeploy.devices import Device
from edgedeploy.energy import window_needed_s
from edgedeploy.errors import ConnectionLostError, EdgeDeployError
from edgedeploy.records import (
    Layer,
    Measurement,
    Missed,
    Phase,
    Plan,
    Series,
    Target,
    VendorFigure,
    Window,
)
from edgedeploy.share import parameters
from edgedeploy.stability import judge
from edgedeploy.target import instrument_program, runtime_program
from edgedeploy.worker import Event, Worker

Array = npt.NDArray[Any]
RawSeries = dict[str, tuple[Array, Array]]

CLOCK = "host-monotonic"
IDLE_WITH_INSTRUMENT_S = 3.0
REST_WITHOUT_INSTRUMENT_S = 0.05
DEFAULT_PERIOD_S = 0.01
# how much longer than needed a window is made: its edges do not fall on the sensor's
SPARE = 1.05
DEVICE_LATENCY, ENQUEUE = "device_latency", "enqueue"
DEVICE_COUNT = 1000
NO_MEMORY = "its memory is not the device's: the numbers alone are computed"
DEVICE_QUANTITIES: tuple[Literal["latency", "cycles", "instructions"], ...] = (
    "latency",
    "cycles",
    "instructions",
)
# of what a device tells of its memory, what lies in RAM while it runs
RAM_KINDS = ("sram_arena", "psram_arena", "static", "stack_peak")


@dataclass
class Instruments:
    """Sensors being polled, each in a process of its own; what could not be opened is `missed`.

    `needed_s` is the shortest window in which those that stand for the whole device tell energy.
    """

    opened: list[tuple[str, Worker]] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    virtual: bool = False
    needed_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    # by instrument: which device it reads, where there may be several
    bus_ids: dict[str, str] = field(default_factory=dict)

    def stop(self) -> tuple[list[Series], RawSeries]:
        """End polling; the channels read, and what was read of them."""
        described: list[Series] = []
        raw: RawSeries = {}
        for name, worker in self.opened:
            try:
                answer = worker.call("sample.stop", timeout_s=30)
            except EdgeDeployError as err:
                self.missed.append(Missed(what=name, reason=err.message, hint=err.hint))
                continue
            told = (*answer["errors"], *answer.get("notes", ()))
            self.missed += [Missed(what=name, reason=text) for text in dict.fromkeys(told)]
            for channel in answer["channels"]:
                key = f"{name}/{channel['name']}"
                t_ns = np.asarray(channel["t_ns"], dtype=np.int64)
                raw[key] = (t_ns, np.asarray(channel["values"], dtype=np.float64))
                described.append(
                    Series(
                        key=key,
                        quantity=channel["quantity"],
                        unit=channel["unit"],
                        clock=CLOCK,
                        instrument=name,
                        scope=channel["scope"],
                        count=len(t_ns),
                        counter_range=channel.get("counter_range"),
                        period_s=channel.get("period_s"),
                        window_s=channel.get("window_s"),
                        total=bool(channel.get("total")),
                    )
                )
        return described, raw


@contextlib.contextmanager
def polling(target: Target, device: Device) -> Iterator[Instruments]:
    """Open and poll the target's instruments for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        found = Instruments()
        for name in target.instruments:
            options = dict(target.device_options.get(name, {}))
            period_s = options.pop("poll_period_s", DEFAULT_PERIOD_S)
            try:
                worker = device.worker(instrument_program(name), timeout_s=60)
                stack.enter_context(worker)
                answer = worker.call("sample.start", options=options, period_s=period_s)
            except EdgeDeployError as err:
                found.missed.append(Missed(what=name, reason=err.message, hint=err.hint))
                continue
            found.virtual |= bool(answer.get("virtual"))
            found.facts |= answer.get("facts", {})
            if answer.get("bus_id"):
                found.bus_ids[name] = answer["bus_id"]
            for channel in answer["channels"]:
                if channel.get("total"):
                    seen_s = max(channel.get("period_s") or 0.0, answer["poll_period_s"])
                    needed_s = window_needed_s(channel["quantity"], seen_s, channel.get("window_s"))
                    found.needed_s = max(found.needed_s, needed_s)
            found.opened.append((name, worker))
            found.missed += [Missed(what=name, reason=note) for note in answer.get("notes", ())]
        yield found


def profile(
    session: Session,
    target: Target,
    plan: Plan,
    inputs: dict[str, Array],
    scratch: Path,
    *,
    virtual: bool = False,
    progress: Callable[[str, float], None] = lambda _phase, _share: None,
) -> tuple[Measurement, RawSeries]:
    """Measure a deployed artifact: idle, warm-up, latency, throughput, cool-down, then layers.

    `inputs` holds whole inferences (N, *shape); the first is the one timed. The series come back
    beside the record, times in ns of `CLOCK`, values in SI units. `virtual`: the artifact is a
    stand-in's.
    """
    start = time.perf_counter()
    given = scratch / "sample.npz"
    save_arrays(given, {name: value[:1] for name, value in inputs.items()})
    packed: dict[str, str] = {}

    def hear(event: Event) -> None:
        if event["event"] == "latency":
            packed.update(start=event["start_ns"], duration=event["duration_ns"])
        else:
            progress(event["phase"], 0.0)

    with polling(target, session.device) as instruments:
        with session.device.exchange(given, None) as (there, _):
            answer = session.worker.call(
                "measure.profile",
                inputs=there,
                plan=_resolved(plan, instruments),
                on_event=hear,
                timeout_s=plan.timeout_s,
            )
        series, raw = instruments.stop()
    series, elsewhere = _of_this_device(series, instruments, answer["facts"].get("bus_id"))
    if "timed" in answer:
        timed, timing_reason = _device_series(answer["timed"], target, raw)
    else:
        timed, timing_reason = (
            [_host_series(packed, target, raw, answer["facts"].get("latency_scope"))],
            None,
        )
    windows = tuple(msgspec.convert(window, Window) for window in answer["windows"])
    progress("layers", 0.0)
    layers, reason = _layers(session, given, plan)
    told, untold = _vendor_figures(session, target, plan)
    beside, unclocked = _device_times(session, target, given, raw)
    facts, after = {**answer["facts"], **instruments.facts}, answer["facts_after"]
    virtual = virtual or instruments.virtual or bool(facts.get("virtual"))
    memory, memory_reason = _memory(session, answer)
    measurement = Measurement(
        plan=plan,
        source="emulated" if virtual else target.source,
        windows=windows,
        series=(*timed, *beside, *series),
        timing_reason=timing_reason,
        series_file="series.npz",
        options=session.options,
        memory_bytes=memory,
        memory_reason=memory_reason,
        layers=layers,
        layers_reason=reason,
        instability=judge(
            raw["latency"][1],
            latency=_first(windows, "latency"),
            warm_up=_first(windows, "warm_up"),
            facts=facts,
            facts_after=after,
            clock_hz=_clock_during(_first(windows, "latency"), series, raw),
            device_s=raw[DEVICE_LATENCY][1] if DEVICE_LATENCY in raw else None,
            enqueue_s=raw[ENQUEUE][1] if ENQUEUE in raw else None,
            spread_limit=target.spread_limit,
        )
        if "latency" in raw
        else (),
        missed=(
            *(Missed(what="connection", reason=note) for note in session.device.notes),
            *instruments.missed,
            *elsewhere,
            *_told(answer.get("timed", {})),
            *untold,
            *unclocked,
        ),
        vendor_figures=told,
        facts={**facts, "cpu_s_per_inference": answer["cpu_s_per_inference"]},
        facts_after=after,
        tools=facts.get("tools", {}),
        duration_s=time.perf_counter() - start,
    )
    return measurement, raw


def _of_this_device(
    series: list[Series], instruments: Instruments, bus_id: str | None
) -> tuple[list[Series], list[Missed]]:
    """The series without those of another device than the model ran on, and what is said of these.

    An instrument and a runtime may count devices in another order, or one of them see fewer.
    """
    others = {
        name: place
        for name, place in instruments.bus_ids.items()
        if bus_id and place.casefold() != bus_id.casefold()
    }
    told = [
        Missed(
            what=name,
            reason=f"it reads the device at {place}, and the model ran on that at {bus_id}",
            hint=f"Say which one it is to read: device_options.{name}.device of the target.",
        )
        for name, place in others.items()
    ]
    return [each for each in series if each.instrument not in others], told


def _host_series(
    packed: dict[str, str], target: Target, raw: RawSeries, scope: str | None
) -> Series:
    """The latencies that the loop of this package timed; kept in `raw`."""
    starts, durations = (
        np.frombuffer(base64.b64decode(packed[key]), dtype="<i8") for key in ("start", "duration")
    )
    raw["latency"] = (starts, durations / 1e9)
    return Series(
        key="latency",
        quantity="latency",
        unit="s",
        clock=CLOCK,
        instrument=target.profiler,
        scope=scope or "one inference, inputs and outputs in host memory",
        count=len(durations),
    )


def _device_series(
    timed: dict[str, Any], target: Target, raw: RawSeries
) -> tuple[list[Series], str | None]:
    """What the device's own loop timed or counted, and why there is no latency where it has none.

    Times of the samples are those of the device's clock, from the first inference on: sums of the
    durations before; indices where the device has no time.
    """
    described: list[Series] = []
    latency_s = timed.get("latency_s")
    for key in DEVICE_QUANTITIES:
        values = timed.get("latency_s" if key == "latency" else key)
        if not values:
            continue
        array = np.asarray(values, dtype=np.float64)
        t_ns = np.arange(len(array), dtype=np.int64)
        if latency_s and len(latency_s) == len(array):
            ends = np.cumsum(np.asarray(latency_s) * 1e9).astype(np.int64)
            t_ns = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])
        raw[key] = (t_ns, array)
        described.append(
            Series(
                key=key,
                quantity=key,
                unit="s" if key == "latency" else "1",
                clock=timed.get("clock", "device"),
                instrument=target.profiler,
                scope="one inference on the device, inputs and outputs in its memory",
                count=len(array),
            )
        )
    if "latency" in raw:
        return described, None
    counted = "counts instructions and has no time" if "instructions" in raw else "has no time"
    return described, f"an emulator {counted}"


def _device_times(
    session: Session, target: Target, given: Path, raw: RawSeries
) -> tuple[list[Series], list[Missed]]:
    """What the device's own clock says of single inferences, beside those timed end to end."""
    if parameters(runtime_program(target.profiler), "device_times") is None:
        return [], []
    count = min(DEVICE_COUNT, len(raw["latency"][1])) if "latency" in raw else DEVICE_COUNT
    try:
        with session.device.exchange(given, None) as (there, _):
            answer = session.worker.call("measure.device_times", inputs=there, count=count)
    except ConnectionLostError:
        raise
    except EdgeDeployError as err:  # the timing stands without it
        return [], [Missed(what="device clock", reason=err.message, hint=err.hint)]
    values = np.asarray(answer["latency_s"], dtype=np.float64)
    raw[DEVICE_LATENCY] = (np.arange(len(values), dtype=np.int64), values)
    if answer.get("enqueue_s"):
        started = np.asarray(answer["enqueue_s"], dtype=np.float64)
        raw[ENQUEUE] = (np.arange(len(started), dtype=np.int64), started)
    described = Series(
        key=DEVICE_LATENCY,
        quantity="latency",
        unit="s",
        clock=answer["clock"],
        instrument=target.profiler,
        scope=answer.get("scope", "one inference on the device, by its own clock"),
        count=len(values),
    )
    return [described], [Missed(what="device clock", reason=n) for n in answer.get("notes", ())]


def _vendor_figures(
    session: Session, target: Target, plan: Plan
) -> tuple[tuple[VendorFigure, ...], list[Missed]]:
    """What only the vendor's own tool tells of the device, and what it did not."""
    if parameters(runtime_program(target.profiler), "vendor_figures") is None:
        return (), []
    try:
        answer = session.worker.call("vendor_figures", seconds=plan.latency_min_s)
    except ConnectionLostError:
        raise
    except EdgeDeployError as err:  # the timing stands without them
        return (), [Missed(what="vendor figures", reason=err.message, hint=err.hint)]
    figures = tuple(msgspec.convert(answer["figures"], list[VendorFigure]))
    return figures, [Missed(what="vendor figures", reason=n) for n in answer.get("notes", ())]


def _told(timed: dict[str, Any]) -> list[Missed]:
    """What the device's program says of its timing, for example that it was cut short."""
    return [Missed(what="timing", reason=note) for note in timed.get("notes", ())]


def _clock_during(window: Window | None, series: list[Series], raw: RawSeries) -> Array | None:
    """Readings of the device's clock within a window, where an instrument gave any."""
    for found in series:
        if found.quantity == "clock" and window is not None:
            t_ns, values = raw[found.key]
            inside: Array = values[(t_ns >= window.start_ns) & (t_ns <= window.end_ns)]
            return inside if len(inside) else None
    return None


def _first(windows: tuple[Window, ...], phase: Phase) -> Window | None:
    return next((window for window in windows if window.phase == phase), None)


def save_series(path: Path, raw: RawSeries) -> None:
    """Write raw series as .npz: `<key>/t_ns` and `<key>/values`."""
    arrays: dict[str, Array] = {}
    for key, (t_ns, values) in raw.items():
        arrays[f"{key}/t_ns"], arrays[f"{key}/values"] = t_ns, values
    save_arrays(path, arrays)


def read_series(path: Path) -> RawSeries:
    """Raw series as `save_series` wrote them."""
    with np.load(path, allow_pickle=False) as arrays:
        keys = [name.removesuffix("/t_ns") for name in arrays.files if name.endswith("/t_ns")]
        return {key: (arrays[f"{key}/t_ns"], arrays[f"{key}/values"]) for key in keys}


def _resolved(plan: Plan, instruments: Instruments) -> dict[str, Any]:
    """The plan with what it left open, and windows as long as the instruments need."""
    needed_s = SPARE * instruments.needed_s
    rest_s = IDLE_WITH_INSTRUMENT_S if instruments.opened else REST_WITHOUT_INSTRUMENT_S
    fields: dict[str, Any] = msgspec.to_builtins(plan)
    if fields["idle_s"] is None:
        fields["idle_s"] = max(rest_s, needed_s)
    if fields["cool_down_s"] is None:
        fields["cool_down_s"] = rest_s
    fields["latency_min_s"] = max(plan.latency_min_s, needed_s)
    fields["latency_max_s"] = max(plan.latency_max_s, fields["latency_min_s"])
    return fields


def _memory(session: Session, answer: dict[str, Any]) -> tuple[dict[str, int], str | None]:
    memory = {**session.memory_bytes, **answer["device_memory_bytes"]}
    if "timed" in answer:
        ram = [memory[kind] for kind in RAM_KINDS if kind in memory]
        return {**memory, **({"steady": sum(ram)} if ram else {})}, None if ram else NO_MEMORY
    if "empty_runtime" not in memory or answer["steady_peak_bytes"] is None:
        return memory, "this system does not tell a process's resident size"
    steady = max(0, answer["steady_peak_bytes"] - memory["empty_runtime"])
    return {**memory, "steady": steady}, None


def _layers(session: Session, given: Path, plan: Plan) -> tuple[tuple[Layer, ...], str | None]:
    if plan.layer_runs <= 0:
        return (), "not asked for"
    try:
        with session.device.exchange(given, None) as (there, _):
            answer = session.worker.call("measure.layers", inputs=there, count=plan.layer_runs)
    except ConnectionLostError:
        raise
    except EdgeDeployError as err:  # the timing stands without its layers
        return (), err.message
    return tuple(msgspec.convert(answer["layers"], list[Layer])), None
