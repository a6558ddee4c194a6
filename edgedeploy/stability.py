"""Is a measurement to be trusted: verdicts with the figure found, the limit, and what to do."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgedeploy.records import Instability, Window
from edgedeploy.stats import Values, drift, percentile, samples_needed

TOO_FEW = samples_needed(0.95)
TOO_SHORT_S = 1.0
SPREAD_LIMIT = 0.10
# how many times as long as on the device an inference may take in all
HOST_BOUND = 1.5
# from which part of the device's time on the host hardly starts inferences in time
ENQUEUE_BOUND = 0.8
DRIFT_LIMIT = 0.05
CLOCK_KEPT = 0.90
LOAD_PER_CORE = 0.5
# 95 % of a normal distribution lies below mean + 1.645 standard deviations.
P95_SIGMAS = 1.644854
# Governors under which a clock read at rest is the clock at work.
FIXED_CLOCK_GOVERNORS = (None, "performance", "userspace")


def judge(
    latency_s: Values,
    *,
    latency: Window | None = None,
    warm_up: Window | None = None,
    facts: Mapping[str, Any] | None = None,
    facts_after: Mapping[str, Any] | None = None,
    clock_hz: Values | None = None,
    device_s: Values | None = None,
    enqueue_s: Values | None = None,
    spread_limit: float = SPREAD_LIMIT,
) -> tuple[Instability, ...]:
    """All that speaks against a measurement, in the order of records.Verdict; () if nothing does.

    `latency_s` are single inferences in order of time, `latency` and `warm_up` their windows,
    `facts` and `facts_after` the device's facts before and after (keys `clock_hz`, `governor`,
    `load_average`, `cores`, `throttle_count`, `throttled`; each may be missing), `clock_hz`
    readings of the device's clock during the latency window, `device_s` what the device's own clock
    says of single inferences, `enqueue_s` how long the host took to start each. Raises nothing.
    """
    before, after = facts or {}, facts_after or {}
    return tuple(
        verdict
        for verdict in (
            _spread(latency_s, spread_limit),
            _drift(latency_s),
            _throttled(before, after, clock_hz),
            _too_few(latency_s),
            _too_short(latency_s, latency),
            _not_steady(warm_up),
            _host_load(before),
            _host_bound(latency_s, device_s, enqueue_s),
        )
        if verdict is not None
    )


def spread(latency_s: Values) -> float | None:
    """(p95 - p50) / (1.645 p50): what the CV would be if the latencies were normal.

    Unlike the plain CV, one stray sample in a thousand does not move it, and a slower mode that
    takes 5 % of the samples does. None under 200 samples.
    """
    p50, p95 = percentile(latency_s, 0.5), percentile(latency_s, 0.95)
    return (p95 - p50) / (P95_SIGMAS * p50) if p50 and p95 is not None else None


def _host_bound(
    latency_s: Values, device_s: Values | None, enqueue_s: Values | None
) -> Instability | None:
    """Where starting takes as long as the work, the device's time holds gaps: that is told first,
    as the two times are close to each other then.
    """
    whole = percentile(latency_s, 0.5)
    device, enqueue = (percentile(v, 0.5) if v is not None else None for v in (device_s, enqueue_s))
    if not whole or not device:
        return None
    if enqueue and enqueue >= ENQUEUE_BOUND * device:
        found = (
            f"the host takes {1e3 * enqueue:.3g} ms to start what takes the device"
            f" {1e3 * device:.3g} ms (limit {ENQUEUE_BOUND:g} of it)"
        )
    elif whole > HOST_BOUND * device:
        found = (
            f"the device works {1e3 * device:.3g} ms of the {1e3 * whole:.3g} ms that an inference"
            f" takes (limit 1 of {HOST_BOUND:g})"
        )
    else:
        return None
    return Instability(
        verdict="host_bound",
        message=(
            f"{found}: the host's calls and copies are timed, not the"
            " device. Use larger batches, or let the runtime record and replay its calls"
        ),
    )


def _spread(latency_s: Values, limit: float) -> Instability | None:
    found = spread(latency_s)
    if found is None or found <= limit:
        return None
    return Instability(
        verdict="spread",
        message=(
            f"latencies spread by {100 * found:.1f} % (CV as p95 over p50 implies it; limit"
            f" {100 * limit:g} %): fix the clocks, stop other work on the device, run"
            " again"
        ),
    )


def _drift(latency_s: Values) -> Instability | None:
    found = drift(latency_s)
    if found is None or abs(found) <= DRIFT_LIMIT:
        return None
    remedy = (
        "let the device cool down first, or fix its clocks"
        if found > 0
        else "warm up longer (plan.warm_up_min_s)"
    )
    return Instability(
        verdict="drift",
        message=(
            f"the median latency moved by {100 * found:+.1f} % from the first third of the run to"
            f" the last (limit {100 * DRIFT_LIMIT:.0f} % either way): {remedy}, run again"
        ),
    )


def _throttled(
    before: Mapping[str, Any], after: Mapping[str, Any], clock_hz: Values | None
) -> Instability | None:
    """A clock that fell is read under load where it can be; at rest only if it is a fixed one."""
    found = ""
    if clock_hz is not None and (under_load := clock_hz[np.isfinite(clock_hz)]).size >= 3:
        third = under_load.size // 3
        first, last = np.median(under_load[:third]), np.median(under_load[-third:])
        found = _clock_fell(float(first), float(last), "during the latency window")
    elif before.get("governor") in FIXED_CLOCK_GOVERNORS:
        first_hz, last_hz = _number(before.get("clock_hz")), _number(after.get("clock_hz"))
        if first_hz is not None and last_hz is not None:
            found = _clock_fell(first_hz, last_hz, "from before the run to after it")
    events_before, events_after = (_number(f.get("throttle_count")) for f in (before, after))
    if events_before is not None and events_after is not None and events_after > events_before:
        found = f"the device throttled {events_after - events_before:g} times (limit 0)"
    if after.get("throttled"):
        found = f"the device says that it throttled: {_words(after['throttled'])}"
    if not found:
        return None
    remedy = "cool it better, lower its power mode or lengthen plan.cool_down_s, run again"
    return Instability(verdict="throttled", message=f"{found}: {remedy}")


def _clock_fell(first_hz: float, last_hz: float, when: str) -> str:
    if first_hz <= 0 or last_hz >= CLOCK_KEPT * first_hz:
        return ""
    return (
        f"the clock fell from {first_hz / 1e6:.0f} to {last_hz / 1e6:.0f} MHz {when}, to"
        f" {100 * last_hz / first_hz:.0f} % (limit {100 * CLOCK_KEPT:.0f} %)"
    )


def _too_few(latency_s: Values) -> Instability | None:
    if len(latency_s) >= TOO_FEW:
        return None
    return Instability(
        verdict="too_few",
        message=(
            f"{len(latency_s)} inferences were timed, {TOO_FEW} are needed for a p95 and a spread:"
            " raise plan.latency_max_s or plan.latency_count"
        ),
    )


def _too_short(latency_s: Values, latency: Window | None) -> Instability | None:
    length_s = float(np.sum(latency_s))
    if latency is not None:
        length_s = (latency.end_ns - latency.start_ns) / 1e9
    if length_s >= TOO_SHORT_S:
        return None
    return Instability(
        verdict="too_short",
        message=(
            f"the latency window took {length_s:.3g} s (limit {TOO_SHORT_S:g} s), too short to meet"
            " what happens now and then: raise plan.latency_min_s or plan.latency_count"
        ),
    )


def _not_steady(warm_up: Window | None) -> Instability | None:
    if warm_up is None or warm_up.steady is not False:
        return None
    length_s = (warm_up.end_ns - warm_up.start_ns) / 1e9
    return Instability(
        verdict="not_steady",
        message=(
            f"{warm_up.count} inferences of warm-up in {length_s:.3g} s never got steady (limit:"
            " medians of blocks within 5 %): raise plan.warm_up_max_s, stop other work"
        ),
    )


def _host_load(before: Mapping[str, Any]) -> Instability | None:
    """By the load average of the last minute: what ran there before this measurement did."""
    loads, cores = before.get("load_average"), _number(before.get("cores"))
    load = _number(loads[0]) if isinstance(loads, list | tuple) and loads else None
    if load is None or not cores or load <= LOAD_PER_CORE * cores:
        return None
    return Instability(
        verdict="host_load",
        message=(
            f"the host's load average was {load:.2f} before the run on {cores:g} cores (limit"
            f" {LOAD_PER_CORE * cores:g}): stop what else runs there, wait a minute, run again"
        ),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _words(value: object) -> str:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return ", ".join(str(v) for v in value)
