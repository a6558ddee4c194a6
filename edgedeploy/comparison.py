"""Two runs, or two sets of runs, side by side: faster, slower, same, or not comparable and why."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgedeploy.change import SIDES, AccuracyChange, EnergyChange, accuracy_change, energy_change
from edgedeploy.counts import CountChange, Counted, count_changes, count_words
from edgedeploy.records import Record, Row
from edgedeploy.stats import (
    RESAMPLES,
    Interval,
    Values,
    ratio_interval,
    samples_needed,
    side_median,
)

Outcome = Literal["faster", "slower", "same", "not_comparable"]

EQUIVALENCE = 0.02
# Where a device was plugged in, another one with each start of an emulator; which one it is, its
# facts say.
PLACES = ("port", "probe")
Key = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Measured:
    """A row of one run with its raw latencies in s, in order of time; empty if it has none.

    `counts` are the raw counts of its inferences by figure: "instructions", "cycles".
    """

    row: Row
    latency_s: Values
    counts: Mapping[str, Values] = field(default_factory=dict)


class Comparison(Record):
    """One target and precision, candidate against baseline.

    `ratio` is candidate over baseline, so above 1 is slower; `ratio_low` and `ratio_high` bound its
    95 % interval. A median is the geometric mean of the runs' medians. `reason` is the figure
    behind the verdict, or why there is none. Runs count where they have a measurement.

    Verdict and ratio are of `judged_by`: latency, or where a side has none (an emulator has no
    time) what both count in an inference. Such a ratio has no bounds where they are not known, and
    is its own bounds where it is exact. `counts` are all that both count.
    """

    workload: str
    target: str
    precision: str
    verdict: Outcome
    reason: str
    equivalence: float
    baseline_runs: int
    candidate_runs: int
    baseline_median_s: float | None
    candidate_median_s: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    accuracy: AccuracyChange
    energy: EnergyChange
    judged_by: Literal["latency"] | Counted = "latency"
    counts: tuple[CountChange, ...] = ()
    notes: tuple[str, ...] = ()


def compare(
    baseline: Sequence[Measured],
    candidate: Sequence[Measured],
    *,
    equivalence: float = EQUIVALENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare rows of the same target and precision, in the baseline's order.

    Several rows of one target and precision on a side are runs of the same thing. The verdict is
    "same" when the 95 % interval of the ratio (`stats.ratio_interval`) includes 1 or lies within
    1 / (1 + equivalence) .. 1 + equivalence, else "slower" or "faster". A side without latencies
    is judged by its instructions or cycles the same way; the interval of exact counts is the ratio.
    Where a side has several workloads, only rows of the same workload are paired. `ValueError` if
    `equivalence` is negative.
    """
    if not equivalence >= 0:
        msg = f"equivalence is {equivalence!r}, expected a fraction such as 0.02"
        raise ValueError(msg)
    several = any(len({m.row.workload for m in side}) > 1 for side in (baseline, candidate))
    before, after = _grouped(baseline, several), _grouped(candidate, several)
    return tuple(
        _compare(before.get(key, []), after.get(key, []), equivalence, resamples, seed)
        for key in dict.fromkeys([*before, *after])
    )


def _grouped(side: Sequence[Measured], by_workload: bool) -> dict[Key, list[Measured]]:
    groups: dict[Key, list[Measured]] = {}
    for m in side:
        key = (m.row.workload if by_workload else "", m.row.target, m.row.precision)
        groups.setdefault(key, []).append(m)
    return groups


def _compare(
    before: list[Measured], after: list[Measured], equivalence: float, resamples: int, seed: int
) -> Comparison:
    row = (before or after)[0].row
    ok = [[m for m in side if _has_measurement(m.row)] for side in (before, after)]
    rows = [[m.row for m in side] for side in ok]
    unlike = _missing(before, after) or _unlike(rows)
    counts: tuple[CountChange, ...] = ()
    if not unlike:
        runs = [[(m.row, m.counts) for m in side] for side in ok]
        counts = count_changes(runs, resamples=resamples, seed=seed)
    timed = all(len(m.latency_s) for side in ok for m in side)
    count = None if timed else next(iter(counts), None)
    unfit = unlike or ("" if count else _unfit(ok))
    interval: Interval | None = None
    if not unfit and not count:
        latencies = [[m.latency_s for m in side] for side in ok]
        interval = ratio_interval(latencies[0], latencies[1], resamples=resamples, seed=seed)
    judged = _count_interval(count) if count else interval
    bounded = interval is not None or (count is not None and _bounded(count))
    medians = [_side_median(side) for side in ok]
    return Comparison(
        workload=row.workload,
        target=row.target,
        precision=row.precision,
        verdict=_verdict(judged, equivalence) if judged else "not_comparable",
        reason=_words(judged, equivalence, count) if judged else unfit,
        equivalence=equivalence,
        baseline_runs=len(ok[0]),
        candidate_runs=len(ok[1]),
        baseline_median_s=medians[0],
        candidate_median_s=medians[1],
        ratio=judged.value if judged else None,
        ratio_low=judged.low if judged and bounded else None,
        ratio_high=judged.high if judged and bounded else None,
        accuracy=accuracy_change(rows[0], rows[1]),
        energy=energy_change(rows[0], rows[1], unlike),
        judged_by=count.figure if count else "latency",
        counts=counts,
        notes=_notes(before, after, rows, exact=count is not None and count.exact),
    )


def _verdict(interval: Interval, equivalence: float) -> Outcome:
    if _includes_one(interval) or _within(interval, equivalence):
        return "same"
    return "slower" if interval.value > 1 else "faster"


def _includes_one(interval: Interval) -> bool:
    return interval.low <= 1 <= interval.high


def _within(interval: Interval, equivalence: float) -> bool:
    return interval.low >= 1 / (1 + equivalence) and interval.high <= 1 + equivalence


def _bounded(count: CountChange) -> bool:
    return count.exact or count.ratio_low is not None


def _count_interval(count: CountChange) -> Interval:
    low, high = count.ratio_low, count.ratio_high
    return Interval(
        count.ratio, count.ratio if low is None else low, count.ratio if high is None else high
    )


def _words(interval: Interval, equivalence: float, count: CountChange | None) -> str:
    change, low, high = (100 * (x - 1) for x in interval)
    found = f"median latency {change:+.1f} % (95 % interval {low:+.1f} to {high:+.1f} %)"
    if count:
        found = f"no latency; {count_words(count)}"
        if count.ratio == 1 and count.ratio_low is None:
            return found
    if _within(interval, equivalence):
        return f"{found}, within the equivalence of {100 * equivalence:g} %"
    return f"{found}, which includes no change" if _includes_one(interval) else found


def _has_measurement(row: Row) -> bool:
    return row.status == "ok" and row.measurement is not None


def _side_median(side: list[Measured]) -> float | None:
    runs = [m.latency_s for m in side if len(m.latency_s) and np.median(m.latency_s) > 0]
    return side_median(runs) if runs else None


def _missing(before: list[Measured], after: list[Measured]) -> str:
    """Which side has no measurement, and why; else empty."""
    for name, side in zip(SIDES, (before, after), strict=True):
        if not side:
            return f"the {name} has no such row"
        if not any(_has_measurement(m.row) for m in side):
            row = side[0].row
            why = f" at {row.failure.stage}: {row.failure.message}" if row.failure else ""
            return f"the {name} has no measurement: {row.status}{why}"
    return ""


def _unlike(rows: list[list[Row]]) -> str:
    """Which condition of the measurements differs between or within the sides; else empty."""
    conditions = [[_conditions(row) for row in side] for side in rows]
    for what in dict.fromkeys(k for side in conditions for c in side for k in c):
        before, after = ({c.get(what, "not set"): None for c in side} for side in conditions)
        for name, found in zip(SIDES, (before, after), strict=True):
            if len(found) > 1:
                return f"runs of the {name} differ in {what}: {', '.join(found)}"
        if before != after:
            return f"{what} differs: baseline {', '.join(before)}, candidate {', '.join(after)}"
    return ""


def _conditions(row: Row) -> dict[str, str]:
    """What must be alike for two measurements to be held against each other."""
    measurement = row.measurement
    if measurement is None:
        return {}
    options = {
        f"run option {name}": json.dumps(value, sort_keys=True, default=str)
        for name, value in sorted(measurement.options.items())
        if name not in PLACES
    }
    facts = {"CPU": "cpu", "device": "device"}
    return {
        "source": measurement.source,
        "board": row.board or str(measurement.facts.get("board")),
        **{what: str(measurement.facts[k]) for what, k in facts.items() if k in measurement.facts},
        **options,
    }


def _unfit(ok: list[list[Measured]]) -> str:
    """Why the latencies of a run do not carry a comparison; else empty."""
    needed = samples_needed(0.5)
    for name, side in zip(SIDES, ok, strict=True):
        for m in side:
            verdicts = m.row.measurement.instability if m.row.measurement else ()
            why = next((v.message for v in verdicts if v.verdict == "too_few"), "")
            if not why and len(m.latency_s) < needed:
                why = f"{len(m.latency_s)} latencies are on record, {needed} are needed"
            if not why and not np.median(m.latency_s) > 0:
                why = "its median latency is not above 0"
            if why:
                return f"{name} run {m.row.run}: {why}"
    return ""


def _notes(
    before: list[Measured], after: list[Measured], rows: list[list[Row]], *, exact: bool
) -> tuple[str, ...]:
    """What to bear in mind beside the verdict, each thing once."""
    notes: list[str] = []
    if [len(side) for side in rows] == [1, 1] and not exact:
        notes.append("one run a side: variation from run to run is not in the interval")
    for name, side, ok in zip(SIDES, (before, after), rows, strict=True):
        if 0 < len(ok) < len(side):
            notes.append(f"{len(side) - len(ok)} of {len(side)} {name} runs have no measurement")
        for row in ok:
            verdicts = row.measurement.instability if row.measurement else ()
            notes += [f"{name} run {row.run} is unstable, {v.message}" for v in verdicts]
    if all(rows):
        for what, values in _particulars(rows).items():
            if values[0] != values[1]:
                notes.append(f"{what} differs: {', '.join(values[0])} to {', '.join(values[1])}")
    return tuple(dict.fromkeys(notes))


def _particulars(rows: list[list[Row]]) -> dict[str, tuple[list[str], list[str]]]:
    """What may differ, and is then part of what is compared: its values on either side."""
    measured = [[m for r in side if (m := r.measurement)] for side in rows]
    models = [[a.model_sha256[:12] for r in side if (a := r.artifact)] for side in rows]
    governors = [[str(m.facts.get("governor")) for m in side] for side in measured]
    found = {
        "the workload": [[r.workload for r in side] for side in rows],
        "the model": models,
        "the clock governor": governors,
    }
    for tool in sorted({name for side in measured for m in side for name in m.tools}):
        found[f"version of {tool}"] = [[m.tools.get(tool, "none") for m in s] for s in measured]
    return {k: (sorted(set(v[0])), sorted(set(v[1]))) for k, v in found.items()}
