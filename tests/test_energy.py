"""Energy over windows: exact where it can be, refused with the reason where it cannot."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from specimens import S

from edgedeploy.energy import (
    counter_delta,
    counter_period_s,
    too_short,
    trapezoid_energy,
    update_period_s,
    window_needed_s,
)

# perf_counter_ns of a host up for 100 days.
BOOT = 100 * 86_400 * S


def times(start_s: float, end_s: float, period_s: float) -> NDArray[np.int64]:
    count = round((end_s - start_s) / period_s) + 1
    return BOOT + np.round(np.linspace(start_s, end_s, count) * 1e9).astype(np.int64)


def at(seconds: float) -> int:
    return BOOT + round(seconds * 1e9)


def test_energy_of_constant_power_is_power_times_time() -> None:
    t = times(0, 10, 0.1)
    assert trapezoid_energy(t, np.full(len(t), 3.0), at(2.03), at(7.58)).value == pytest.approx(
        3 * 5.55, rel=1e-12
    )


@given(
    st.floats(-5, 5), st.floats(30, 90), st.floats(0.2, 4), st.floats(0.3, 4), st.integers(0, 99)
)
def test_trapezoid_is_exact_for_linear_power_and_adds_over_windows(
    slope: float, offset: float, start: float, length: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t_s = np.cumsum(rng.uniform(0.005, 0.02, 1000))
    t = BOOT + np.round(t_s * 1e9).astype(np.int64)
    power = offset + slope * (t - BOOT) / 1e9
    a, b, c = start, start + length / 2, start + length
    whole = trapezoid_energy(t, power, at(a), at(c)).value
    parts = [trapezoid_energy(t, power, at(x), at(y)).value for x, y in ((a, b), (b, c))]
    exact = offset * (c - a) + slope * (c * c - a * a) / 2
    assert whole == pytest.approx(exact, rel=1e-6)
    assert math.fsum(p for p in parts if p is not None) == pytest.approx(whole, rel=1e-9)


def test_power_outside_of_the_window_does_not_count() -> None:
    t = times(0, 10, 0.01)
    power = np.where((t >= at(4)) & (t <= at(6)), 5.0, 1000.0)
    assert trapezoid_energy(t, power, at(4), at(6)).value == pytest.approx(10.0)


def test_under_two_samples_inside_is_refused() -> None:
    t = times(0, 10, 1.0)
    found = trapezoid_energy(t, np.ones(11), at(4.5), at(5.5))
    assert found == (None, "1 power samples lie in the window, 2 are needed")
    assert trapezoid_energy(t, np.ones(11), at(4.5), at(6.5)).value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("t", "reason"),
    [
        (times(0, 0, 1), "the sensor gave 1 readings in all, 2 are needed"),
        (times(0, 10, 0.1)[::-1], "the readings' times go backwards"),
        (times(3, 10, 0.1), "1 s at the window's edge have no readings (one every 0.1 s)"),
        (times(0, 6, 0.1), "2 s at the window's edge have no readings (one every 0.1 s)"),
        (
            np.concatenate([times(0, 4, 0.1), times(5, 10, 0.1)]),
            "readings are missing for 1 s of the window (one every 0.1 s)",
        ),
    ],
)
def test_samples_that_do_not_cover_the_window_are_refused(
    t: NDArray[np.int64], reason: str
) -> None:
    assert trapezoid_energy(t, np.ones(len(t)), at(2), at(8)) == (None, reason)


def test_a_window_without_length_is_refused() -> None:
    t = times(0, 10, 0.1)
    reason = "the window is 0 s long"
    assert trapezoid_energy(t, np.ones(101), at(2), at(2)) == (None, reason)
    assert counter_delta(t, np.arange(101.0), at(2), at(2), None) == (None, reason)


def test_failed_reads_are_missing_samples() -> None:
    t = times(0, 10, 0.1)
    power = np.full(101, 2.0)
    power[[30, 50]] = math.nan
    assert trapezoid_energy(t, power, at(2), at(8)).value == pytest.approx(12.0)
    power[30:45] = math.nan
    reason = trapezoid_energy(t, power, at(2), at(8)).reason
    assert reason == "readings are missing for 1.6 s of the window (one every 0.1 s)"


def test_a_short_hole_in_a_long_window_does_no_harm() -> None:
    t = np.delete(times(0, 30, 0.01), slice(1000, 1050))
    assert trapezoid_energy(t, np.full(len(t), 2.0), at(1), at(29)).value == pytest.approx(56.0)


def test_a_window_may_end_just_past_the_last_reading() -> None:
    t = times(0, 10, 0.1)
    assert trapezoid_energy(t, np.full(101, 2.0), at(5), at(10.1)).value == pytest.approx(10.2)


@given(
    st.floats(0, 1), st.floats(0.02, 0.45), st.floats(0.5, 3), st.floats(3, 6), st.integers(0, 99)
)
def test_a_counter_gives_the_same_wherever_it_wraps(
    offset: float, per_poll: float, start: float, length: float, seed: int
) -> None:
    counter_range = 262.143
    t = times(0, 10, 0.1)
    steps = np.random.default_rng(seed).uniform(0.9, 1.1, 100) * per_poll * counter_range
    total = np.concatenate(([0.0], np.cumsum(steps)))
    wrapped = (total + offset * counter_range) % counter_range
    end = start + length
    plain = counter_delta(t, total, at(start), at(end), None).value
    found = counter_delta(t, wrapped, at(start), at(end), counter_range).value
    assert plain is not None
    assert found == pytest.approx(plain, rel=1e-6)
    exact = np.interp(end, (t - BOOT) / 1e9, total) - np.interp(start, (t - BOOT) / 1e9, total)
    # two cut steps, each within 10 % of the mean one
    assert abs(plain - exact) < 2 * 0.2 * per_poll * counter_range


def stepping(
    period_s: float, phase: float, poll_s: float, seconds: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Polls with jitter, and how often an ideal counter had been updated by then."""
    jitter = np.random.default_rng(seed).uniform(0.8, 1.2, int(seconds / poll_s / 0.8) + 10)
    t_s = np.cumsum(jitter * poll_s)
    t_s = t_s[t_s < seconds]
    updates = np.floor((t_s - phase * period_s) / period_s)
    return BOOT + np.round(t_s * 1e9).astype(np.int64), updates


@given(
    period_s=st.floats(0.01, 0.2),
    phase=st.floats(0, 1),
    part=st.floats(0.02, 0.4),
    start=st.floats(0, 1),
    periods=st.floats(100, 140),
    seed=st.integers(0, 99),
)
def test_energy_of_a_counter_is_within_one_quantum(
    *, period_s: float, phase: float, part: float, start: float, periods: float, seed: int
) -> None:
    power_w = 250.0
    t, updates = stepping(period_s, phase, part * period_s, (periods + 6) * period_s, seed)
    quantum_j = power_w * period_s
    start_s, length_s = (2 + start) * period_s, periods * period_s
    found = counter_delta(t, quantum_j * updates, at(start_s), at(start_s + length_s), None)
    assert found.value == pytest.approx(power_w * length_s, abs=quantum_j)


@given(
    period_s=st.floats(0.01, 0.2),
    phase=st.floats(0, 1),
    part=st.floats(0.05, 3),
    first=st.floats(0, 1),
    second=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_two_windows_of_the_same_load_agree(
    *, period_s: float, phase: float, part: float, first: float, second: float, seed: int
) -> None:
    """At 100 updates or more, of what is slower: the counter or its polling."""
    step_s = period_s * max(1.0, 1.2 * part)
    length_s = 105 * step_s
    t, updates = stepping(period_s, phase, part * period_s, 2 * length_s + 10 * step_s, seed)
    quantum_j = 250.0 * period_s
    energies = []
    for offset in (2 * step_s * (1 + first), length_s + 4 * step_s * (1 + second)):
        window = at(offset), at(offset + length_s)
        assert too_short(*window, counter_period_s(t, updates, *window, None), "energy") is None
        energies.append(counter_delta(t, quantum_j * updates, *window, None).value)
    one, two = energies
    assert one is not None
    assert one == pytest.approx(two, rel=0.03)
    assert one == pytest.approx(250.0 * length_s, rel=0.03)


@given(st.floats(0, 1), st.floats(0.03, 5), st.floats(0, 1))
def test_a_load_that_swings_is_missed_by_no_more_than_the_cut_steps(
    phase: float, swing_s: float, start: float
) -> None:
    period_s, poll_s, base_w, swing_w = 0.05, 0.005, 200.0, 100.0
    t_s = np.arange(0, 9, poll_s)

    def energy_j(at_s: Any) -> Any:
        angle = 2 * math.pi / swing_s
        return base_w * at_s + swing_w / angle * (1 - np.cos(angle * at_s))

    edges = (np.floor((t_s - phase * period_s) / period_s) + phase) * period_s
    t = BOOT + np.round(t_s * 1e9).astype(np.int64)
    found = counter_delta(t, energy_j(edges), at(1 + start), at(7 + start), None)
    exact = energy_j(7 + start) - energy_j(1 + start)
    most = 2 * period_s * 2 * swing_w + 2 * poll_s * (base_w + swing_w)
    assert found.value == pytest.approx(exact, abs=most)


def test_a_counter_that_wraps_many_times_is_followed() -> None:
    t = times(0, 100, 0.1)
    wrapped = (np.arange(1001) * 4.0) % 10
    assert counter_delta(t, wrapped, at(10), at(90), 10.0).value == pytest.approx(3200.0)


def test_a_counter_polled_slower_than_half_a_wrap_is_refused() -> None:
    t = times(0, 100, 1.0)
    found = counter_delta(t, (np.arange(101) * 6.0) % 10, at(10), at(90), 10.0)
    assert found.value is None
    assert found.reason == (
        "the energy counter moves by 6 between two readings, over half of its range of 10:"
        " a wrap may have been missed; poll it more often"
    )


def test_a_pause_long_enough_for_a_whole_wrap_is_refused() -> None:
    t = times(0, 100, 0.1)
    wrapped = (np.arange(1001) * 1.0) % 10
    # 10 polls, one full wrap, left out: the readings on both sides look like neighbours.
    keep = np.r_[:500, 510:1001]
    assert "a wrap may have been missed" in str(
        counter_delta(t[keep], wrapped[keep], at(10), at(90), 10.0).reason
    )
    keep = np.r_[:500, 503:1001]
    found = counter_delta(t[keep], wrapped[keep], at(10), at(90), 10.0)
    assert found.value == pytest.approx(800.0)


def test_a_counter_without_range_that_falls_was_reset() -> None:
    t = times(0, 10, 0.1)
    values = np.arange(101.0)
    values[50:] -= 50
    assert counter_delta(t, values, at(2), at(8), None) == (
        None,
        "the energy counter fell and has no range to wrap at: a reset",
    )


def test_a_counter_that_stands_still_gives_no_zero() -> None:
    t = times(0, 10, 0.1)
    assert counter_delta(t, np.full(101, 7.0), at(2), at(8), 100.0) == (
        None,
        "the energy counter did not move in the window",
    )


def test_a_counter_keeps_counting_while_it_is_not_read() -> None:
    t, values = times(0, 10, 0.1), np.arange(101.0)
    keep = np.r_[:30, 60:101]
    assert counter_delta(t[keep], values[keep], at(2), at(8), None).value == pytest.approx(60.0)
    assert counter_delta(t[keep], values[keep], at(4), at(8), None) == (
        None,
        "readings are missing for 3.1 s of the window (one every 0.1 s)",
    )


def test_a_counter_that_moves_in_steps_is_read_at_its_steps() -> None:
    """10 W, updated each 0.1 s, polled each 1 ms: naive reading errs by up to a step of 1 J."""
    t = times(0, 14, 0.001)
    values = np.floor((t - BOOT) / 1e8 + 1e-9)
    for start, end in ((2.001, 13.099), (2.099, 13.001)):
        found = counter_delta(t, values, at(start), at(end), None).value
        assert found == pytest.approx(10 * (end - start), rel=1e-6)


def test_the_first_reading_is_no_edge() -> None:
    """Polling begins late in a step of 0.1 s, and the window with it."""
    t = times(0.09, 14, 0.001)
    values = np.floor((t - BOOT) / 1e8 + 1e-9)
    assert counter_delta(t, values, at(0.09), at(13.09), None).value == pytest.approx(130.0)


def test_a_counter_that_stops_within_the_window_is_refused() -> None:
    t = times(0, 14, 0.01)
    values = np.minimum(np.floor((t - BOOT) / 1e8 + 1e-9), 100)
    assert counter_delta(t, values, at(1), at(13), None) == (
        None,
        "the energy counter moved over 9 s of the window of 12 s",
    )


def test_a_counters_period_is_counted_in_the_window_but_never_below_what_is_declared() -> None:
    t = times(0, 10, 0.001)
    stepped = np.floor((t - BOOT) / 1e8 + 1e-9)
    assert counter_period_s(t, stepped, at(1.05), at(9.05), None) == pytest.approx(0.1)
    assert counter_period_s(t, stepped, at(1.05), at(9.05), 0.02) == pytest.approx(0.1)
    assert counter_period_s(t, stepped, at(1.05), at(9.05), 0.15) == 0.15
    assert counter_period_s(t, np.ones(len(t)), at(1), at(9), 0.02) is None


def test_a_period_is_declared_or_seen_but_never_below_the_polling() -> None:
    t = times(0, 10, 0.001)
    stepped = np.floor((t - BOOT) / 1e8 + 1e-9)
    assert update_period_s(t, stepped, None) == pytest.approx(0.1)
    assert update_period_s(t, stepped, 0.02) == 0.02
    assert update_period_s(t, stepped, 1e-6) == pytest.approx(0.001)
    assert update_period_s(t, np.ones(len(t)), None) == pytest.approx(0.001)
    assert update_period_s(t[:1], stepped[:1], 0.02) is None


def test_a_counter_needs_a_hundred_of_its_periods_or_says_how_long_that_is() -> None:
    assert too_short(0, 10 * S, 0.1, "energy") is None
    assert too_short(0, 5 * S, 0.1, "energy") == (
        "the window of 5 s spans 50.0 updates of the sensor (one every 0.1 s), 100 are needed:"
        " lengthen it to 10 s"
    )
    assert window_needed_s("energy", 0.1) == pytest.approx(10.0)
    assert window_needed_s("power", 0.1) == pytest.approx(1.0)
    assert window_needed_s("energy", None) == 0.0


def test_a_sensor_may_ask_for_a_longer_window() -> None:
    assert window_needed_s("energy", 0.02, 5.0) == 5.0
    assert window_needed_s("energy", 0.1, 5.0) == pytest.approx(10.0)
    assert too_short(0, 5 * S, 0.02, "energy", 5.0) is None
    for period_s in (0.02, None):
        assert too_short(0, 3 * S, period_s, "energy", 5.0) == (
            "the window has 3 s, and this sensor's mean can be relied on over 5 s or more:"
            " lengthen it to 5 s"
        )


def test_a_window_spans_ten_updates_or_says_how_long_it_must_be() -> None:
    assert too_short(0, 1 * S, 0.1) is None
    # 10 * 0.07 is 0.7000000000000001 in floating point.
    assert too_short(0, 7 * S // 10, 0.07) is None
    assert too_short(0, 1 * S, None) is None
    assert too_short(0, 2 * S, 0.563) == (
        "the window of 2 s spans 3.6 updates of the sensor (one every 0.563 s), 10 are needed:"
        " lengthen it to 5.63 s"
    )
