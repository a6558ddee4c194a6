"""Verdicts: each at its limit, with the figure found, the limit and the remedy."""

import math
from typing import Any

import numpy as np
import pytest
from specimens import S, latencies

from edgedeploy.records import Instability, Window
from edgedeploy.stability import judge, spread

STEADY = latencies(2e-3)
WINDOW = Window(phase="latency", start_ns=0, end_ns=2 * S, count=1000)


def verdicts(found: tuple[Instability, ...]) -> list[str]:
    return [v.verdict for v in found]


def test_a_quiet_measurement_has_no_verdict() -> None:
    facts = {
        "clock_hz": 3e9,
        "governor": "performance",
        "load_average": [0.4, 3.0, 5.0],
        "cores": 2,
        "throttle_count": 4,
    }
    warm = Window(phase="warm_up", start_ns=0, end_ns=S, count=50, steady=True)
    assert judge(STEADY, latency=WINDOW, warm_up=warm, facts=facts, facts_after=facts) == ()
    assert judge(STEADY, latency=WINDOW) == ()


def test_spread_is_the_cv_for_normal_latencies_and_ignores_a_stray_sample() -> None:
    normal = 1 + 0.05 * np.random.default_rng(0).normal(size=100_000)
    assert spread(normal) == pytest.approx(0.05, rel=0.02)
    stray = normal.copy()
    stray[500] = 1000.0
    assert spread(stray) == pytest.approx(spread(normal), rel=1e-3)
    assert spread(normal[:199]) is None


def test_a_second_mode_of_a_tenth_of_the_samples_is_spread() -> None:
    values = np.full(1000, 2e-3)
    values[::10] = 3e-3
    (found,) = judge(values, latency=WINDOW)
    assert found.verdict == "spread"
    assert found.message == (
        "latencies spread by 30.4 % (CV as p95 over p50 implies it; limit 10 %): fix the clocks,"
        " stop other work on the device, run again"
    )


@pytest.mark.parametrize(("end", "remedy"), [(1.08, "cool down"), (0.92, "warm up longer")])
def test_drift_either_way_says_what_to_do(end: float, remedy: str) -> None:
    values = 2e-3 * np.linspace(1, end, 1000)
    (found,) = judge(values, latency=WINDOW)
    assert found.verdict == "drift"
    assert f"moved by {'+5.3' if end > 1 else '-5.4'} %" in found.message
    assert "(limit 5 % either way)" in found.message
    assert remedy in found.message


def test_drift_within_the_limit_is_no_verdict() -> None:
    assert judge(2e-3 * np.linspace(1, 1.07, 1000), latency=WINDOW) == ()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            {"clock_hz": 2e9, "governor": "performance"},
            {"clock_hz": 1.7e9},
            "the clock fell from 2000 to 1700 MHz from before the run to after it, to 85 %"
            " (limit 90 %)",
        ),
        ({"clock_hz": 2e9}, {"clock_hz": 1.7e9}, "to 85 % (limit 90 %)"),
        ({"throttle_count": 3}, {"throttle_count": 5}, "the device throttled 2 times (limit 0)"),
        ({}, {"throttled": ["thermal", "power"]}, "it throttled: thermal, power"),
        ({}, {"throttled": "thermal"}, "it throttled: thermal"),
        ({}, {"throttled": True}, "it throttled: True"),
    ],
)
def test_throttling_is_seen(before: dict[str, Any], after: dict[str, Any], message: str) -> None:
    (found,) = judge(STEADY, latency=WINDOW, facts=before, facts_after=after)
    assert found.verdict == "throttled"
    assert message in found.message
    assert "cool it better" in found.message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"clock_hz": 2e9, "governor": "performance"}, {"clock_hz": 1.8e9}),
        ({"clock_hz": 2e9, "governor": "schedutil"}, {"clock_hz": 0.4e9}),
        ({"clock_hz": 2e9}, {"clock_hz": None}),
        ({"clock_hz": 0.0}, {"clock_hz": 0.0}),
        ({"throttle_count": 5}, {"throttle_count": 5}),
        ({"throttle_count": 5}, {}),
        ({}, {"throttled": False}),
        ({}, {"throttled": []}),
    ],
)
def test_what_is_not_throttling(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert judge(STEADY, latency=WINDOW, facts=before, facts_after=after) == ()


def test_a_clock_read_under_load_goes_before_one_read_at_rest() -> None:
    rest = {"clock_hz": 2e9}, {"clock_hz": 0.5e9}
    steady = np.array([2e9, math.nan, 2e9, 2e9])
    assert judge(STEADY, latency=WINDOW, facts=rest[0], facts_after=rest[1], clock_hz=steady) == ()
    falling = np.array([2e9, 2e9, 1.9e9, 1.5e9, 1.0e9, 1.0e9])
    (found,) = judge(STEADY, latency=WINDOW, clock_hz=falling)
    assert "fell from 2000 to 1000 MHz during the latency window, to 50 %" in found.message
    lost = np.array([math.nan, 2e9, 2e9, 1e9, math.nan])
    (found,) = judge(STEADY, latency=WINDOW, clock_hz=lost)
    assert "fell from 2000 to 1000 MHz" in found.message


def test_too_few_and_too_short() -> None:
    short = Window(phase="latency", start_ns=0, end_ns=S // 2, count=199)
    few, brief = judge(STEADY[:199], latency=short)
    assert (few.verdict, brief.verdict) == ("too_few", "too_short")
    assert few.message.startswith("199 inferences were timed, 200 are needed for a p95")
    assert brief.message.startswith("the latency window took 0.5 s (limit 1 s)")
    assert verdicts(judge(STEADY[:200], latency=WINDOW)) == []
    assert verdicts(judge(STEADY[:200])) == ["too_short"]
    assert verdicts(judge(np.array([]))) == ["too_few", "too_short"]


def test_a_warm_up_that_never_got_steady() -> None:
    warm = Window(phase="warm_up", start_ns=0, end_ns=10 * S, count=80, steady=False)
    (found,) = judge(STEADY, latency=WINDOW, warm_up=warm)
    assert found.verdict == "not_steady"
    assert found.message.startswith("80 inferences of warm-up in 10 s never got steady")
    assert "raise plan.warm_up_max_s" in found.message


def test_host_load_is_over_half_a_core_each() -> None:
    (found,) = judge(STEADY, latency=WINDOW, facts={"load_average": [1.01, 0, 0], "cores": 2})
    assert found.verdict == "host_load"
    assert found.message.startswith(
        "the host's load average was 1.01 before the run on 2 cores (limit 1)"
    )
    for facts in (
        {"load_average": [1.0, 9.0, 9.0], "cores": 2},
        {"load_average": [9.0, 9.0, 9.0]},
        {"load_average": None, "cores": 2},
        {"load_average": [], "cores": 2},
    ):
        assert judge(STEADY, latency=WINDOW, facts=facts) == ()


def test_all_at_once_come_in_the_order_of_the_closed_set() -> None:
    values = 2e-3 * np.linspace(1, 2, 200)
    found = judge(
        values[:199],
        latency=Window(phase="latency", start_ns=0, end_ns=S // 2, count=199),
        warm_up=Window(phase="warm_up", start_ns=0, end_ns=S, count=3, steady=False),
        facts={"load_average": [8.0], "cores": 2},
        facts_after={"throttled": True},
    )
    assert verdicts(found) == [
        "drift",
        "throttled",
        "too_few",
        "too_short",
        "not_steady",
        "host_load",
    ]
    assert verdicts(judge(values, latency=WINDOW))[:2] == ["spread", "drift"]


def test_who_is_waited_for_is_told_by_the_work_and_by_what_starting_takes() -> None:
    device = np.full(1000, 1e-3)
    for enqueue in (None, np.full(1000, 0.79e-3)):
        assert judge(STEADY, latency=WINDOW, device_s=STEADY, enqueue_s=enqueue) == ()
        (found,) = judge(STEADY, latency=WINDOW, device_s=device, enqueue_s=enqueue)
        assert "the device works 1 ms of the 2 ms" in found.message
    # gaps between kernels are in the device's time: the two times are the same, and yet it waited
    (found,) = judge(STEADY, latency=WINDOW, device_s=STEADY, enqueue_s=0.9 * STEADY)
    assert found.verdict == "host_bound"
    assert "the host takes 1.8 ms to start what takes the device 2 ms (limit 0.8" in found.message
