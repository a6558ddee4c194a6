"""The poller: its grid, wraps, nulls, sensors that break, its bounds."""

import importlib.util
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.energy import counter_delta

INPROC = Path(__file__).parents[2] / "edgedeploy" / "_inproc"


def fresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_under_test", INPROC / "sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


law = fresh()


@pytest.fixture
def sample() -> Iterator[ModuleType]:
    """The module with its own state; a thread left running fails the test."""
    before = threading.active_count()
    yield fresh()
    assert threading.active_count() == before


def channel(name: str = "a", quantity: str = "power", **said: Any) -> dict[str, Any]:
    return {"name": name, "quantity": quantity, "unit": "W", "counter_range": None, **said}


class Made:
    """An instrument whose n-th reading is `give(n)`."""

    def __init__(
        self, give: Callable[[int], object], channels: list[dict[str, Any]] | None = None
    ) -> None:
        self.give = give
        self.channels = channels or [channel()]
        self.options: dict[str, Any] | None = None
        self.count = 0
        self.closed = 0

    def open(self, options: dict[str, Any]) -> dict[str, Any]:
        self.options = options
        return {"channels": self.channels, "notes": ["a note"]}

    def read(self) -> object:
        self.count += 1
        return self.give(self.count - 1)

    def close(self) -> None:
        self.closed += 1


def wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def poll(sample: ModuleType, made: Made, count: int, period_s: float = 0.001) -> dict[str, Any]:
    """Poll until `count` readings were asked for, or the poller gave up."""
    sample.start(made, options={}, period_s=period_s)
    poller = next(iter(sample._pollers.values()))
    wait_for(lambda: made.count >= count or not poller.thread.is_alive())
    answer: dict[str, Any] = sample.stop(made)
    return answer


def test_start_answers_open_and_stop_the_readings(sample: ModuleType) -> None:
    made = Made(lambda n: [n + 0.5, 2 * n], [channel("a", scope="module"), channel("b")])
    opened = sample.start(made, options={"device": 3}, period_s=0.002)
    assert opened == {"channels": made.channels, "notes": ["a note"], "poll_period_s": 0.002}
    assert made.options == {"device": 3}
    wait_for(lambda: made.count >= 5)
    answer = json.loads(json.dumps(sample.stop(made)))
    assert made.closed == 1
    a, b = answer["channels"]
    polls = answer["polls"]
    assert polls == made.count >= 5
    assert a["values"] == [n + 0.5 for n in range(polls)]
    assert b["values"] == [2.0 * n for n in range(polls)]
    assert a["t_ns"] == b["t_ns"]
    assert {k: a[k] for k in ("name", "quantity", "scope", "nulls")} == {
        "name": "a",
        "quantity": "power",
        "scope": "module",
        "nulls": 0,
    }
    assert answer["errors"] == []
    assert answer["notes"] == []
    assert answer["period_s"] == 0.002
    assert 0 <= answer["read_mean_s"] <= answer["read_max_s"]


class Run:
    """A poller run in this thread, on a clock of its own that only readings and waits move."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, sample: ModuleType, read_ns: list[int]
    ) -> None:
        self.now = 1_000_000_007
        self.read_ns = read_ns
        made = Made(self.give)
        self.poller = sample.Poller(made, made.channels, 0.005, math.inf)
        monkeypatch.setattr(sample, "clock", lambda: self.now)
        monkeypatch.setattr(self.poller, "ending", self)
        self.poller.run()
        self.answer = self.poller.answer()
        self.t_ns = [t - 1_000_000_007 for t in self.answer["channels"][0]["t_ns"]]

    def give(self, n: int) -> list[float]:
        self.now += self.read_ns[n]
        return [float(n)]

    def wait(self, seconds: float) -> bool:
        self.now += round(seconds * 1e9)
        return bool(self.poller.polls == len(self.read_ns))


def test_time_is_the_middle_of_the_reading(
    monkeypatch: pytest.MonkeyPatch, sample: ModuleType
) -> None:
    run = Run(monkeypatch, sample, [1_000_000, 400, 2_000_001])
    assert run.t_ns == [500_000, 5_000_200, 11_000_000]
    assert run.answer["late"] == 0
    assert run.answer["read_mean_s"] == pytest.approx(3_000_401 / 3e9)
    assert run.answer["read_max_s"] == 0.002000001


def test_grid_does_not_drift_and_late_polls_are_not_made_up_for(
    monkeypatch: pytest.MonkeyPatch, sample: ModuleType
) -> None:
    # Readings of 1 ms on a grid of 5 ms; the third takes 12.5 ms, so two points pass, and the
    # fifth ends on the point where another is due, so that one passes.
    run = Run(monkeypatch, sample, [1_000_000, 1_000_000, 12_500_000, 1_000_000, 5_000_000, 0, 0])
    starts = [t - r // 2 for t, r in zip(run.t_ns, run.read_ns, strict=True)]
    assert starts == [k * 5_000_000 for k in (0, 1, 2, 5, 6, 8, 9)]
    assert run.answer["late"] == 3
    assert run.answer["polls"] == 7


@given(
    due=st.integers(0, 10**15),
    period=st.integers(1, 10**10),
    waited=st.integers(-(10**9), 10**12),
)
def test_next_due_is_the_first_grid_point_to_come(due: int, period: int, waited: int) -> None:
    now = due + waited
    after, passed = law.next_due(due, period, now)
    assert (after - due) % period == 0
    assert passed == (after - due) // period - 1
    if waited < 0:
        assert after == due + period
    else:
        assert now < after <= now + period


def test_nulls_are_left_out_of_their_channel_only(sample: ModuleType) -> None:
    bad = [None, math.nan, math.inf]
    made = Made(lambda n: [bad[n % 3] if n < 6 else 7.0, n], [channel("a"), channel("b")])
    answer = poll(sample, made, 10)
    a, b = answer["channels"]
    assert a["nulls"] == 6
    assert b["nulls"] == 0
    assert a["values"] == [7.0] * (answer["polls"] - 6)
    assert a["t_ns"] == b["t_ns"][6:]
    assert answer["errors"] == []


def test_sensor_that_raises_midway_keeps_what_was_read(sample: ModuleType) -> None:
    def give(n: int) -> list[float]:
        if n == 4:
            message = "the bus is gone"
            raise OSError(message)
        return [float(n)]

    made = Made(give)
    answer = poll(sample, made, 100)
    assert answer["channels"][0]["values"] == [0.0, 1.0, 2.0, 3.0]
    assert answer["errors"] == [
        "read() raised OSError: the bus is gone; polling ended after 4 polls"
    ]
    assert made.closed == 1


@pytest.mark.parametrize(
    ("reading", "error"),
    [
        ([1.0, 2.0], "read() gave [1.0, 2.0] for 1 channels; polling ended after 3 polls"),
        (None, "read() gave None for 1 channels; polling ended after 3 polls"),
        (["5 W"], "read() gave '5 W' for channel a; polling ended after 3 polls"),
    ],
)
def test_nonsense_ends_polling(sample: ModuleType, reading: object, error: str) -> None:
    answer = poll(sample, Made(lambda n: reading if n == 2 else [1.0]), 100)
    assert answer["errors"] == [error]
    assert answer["channels"][0]["values"] == [1.0, 1.0]


def test_reading_that_never_comes_back_is_reported(
    sample: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "LAST_READ_S", 0.05)
    release = threading.Event()

    def give(n: int) -> list[float]:
        if n == 2:
            release.wait(10)
        return [float(n)]

    made = Made(give)
    sample.start(made, options={}, period_s=0.001)
    poller = next(iter(sample._pollers.values()))
    wait_for(lambda: made.count == 3)
    answer = sample.stop(made)
    assert answer["channels"][0]["values"] == [0.0, 1.0]
    assert answer["errors"] == ["read() has not come back for 0.05 s; polling ended after 2 polls"]
    # Closing under a call in progress could bring the process down.
    assert made.closed == 0
    release.set()
    poller.thread.join(10)
    assert poller.polls == 2


def test_close_that_raises_is_reported(sample: ModuleType) -> None:
    class Stuck(Made):
        def close(self) -> None:
            message = "device busy"
            raise RuntimeError(message)

    answer = poll(sample, Stuck(lambda n: [1.0]), 2)
    assert answer["errors"] == ["close() raised RuntimeError: device busy"]
    assert len(answer["channels"][0]["values"]) >= 2


def test_counter_wraps_are_undone_end_to_end(sample: ModuleType) -> None:
    # 262143.328850 J range, the first reading 1.5 J below it; each poll adds 0.7 J.
    wrap_uj, start_uj, step_uj = 262143328850, 262141828850, 700000
    said = channel("package-0", "energy", counter_range=wrap_uj / 1e6)
    made = Made(lambda n: [((start_uj + n * step_uj) % wrap_uj) / 1e6], [said])
    answer = poll(sample, made, 20)
    got = answer["channels"][0]
    t, values = np.array(got["t_ns"]), np.array(got["values"])
    assert values[2] == 262143.22885
    assert values[3] == 0.6
    moved = counter_delta(t, values, int(t[0]), int(t[-1]), got["counter_range"])
    assert moved.value == pytest.approx(0.7 * (answer["polls"] - 1), abs=0.7)  # one step of it


def test_counter_that_wraps_soon_is_polled_more_often(sample: ModuleType) -> None:
    # 20 J wrap in 20 ms at 1 kW: polled each 5 ms, four times a wrap, whatever is asked for.
    said = [
        channel("a", "energy", counter_range=20.0),
        channel("b", "energy", counter_range=262143.32885),
        channel("c", "power", counter_range=None),
    ]
    made = Made(lambda n: [0.0, 0.0, 0.0], said)
    assert sample.start(made, options={}, period_s=1.0)["poll_period_s"] == 0.005
    assert sample.stop(made)["period_s"] == 0.005


def test_counter_that_wraps_too_soon_is_refused(sample: ModuleType) -> None:
    made = Made(lambda n: [0.0], [channel("a", "energy", counter_range=0.5)])
    with pytest.raises(sample.BadInput, match="wraps too often") as caught:
        sample.start(made, options={}, period_s=0.01)
    assert caught.value.hint
    assert made.closed == 1


@pytest.mark.parametrize("period_s", [0.0, -1.0, math.nan, math.inf, 1e-5, 61.0])
def test_silly_periods_are_refused(sample: ModuleType, period_s: float) -> None:
    made = Made(lambda n: [0.0])
    with pytest.raises(sample.BadInput, match="cannot be polled every") as caught:
        sample.start(made, options={}, period_s=period_s)
    assert caught.value.hint == "Choose 0.0005 to 60 s."
    assert made.options is None


@pytest.mark.parametrize("channels", [[], [channel("a"), channel("a")]])
def test_channels_need_names_of_their_own(
    sample: ModuleType, channels: list[dict[str, Any]]
) -> None:
    made = Made(lambda n: [0.0])
    made.channels = channels
    with pytest.raises(ValueError, match="without a name of their own"):
        sample.start(made, options={}, period_s=0.01)
    assert made.closed == 1


def test_start_twice_and_stop_without_start(sample: ModuleType) -> None:
    made, other = Made(lambda n: [1.0]), Made(lambda n: [2.0])
    with pytest.raises(RuntimeError, match="not being polled"):
        sample.stop(made)
    sample.start(made, options={}, period_s=0.01)
    with pytest.raises(RuntimeError, match="already"):
        sample.start(made, options={}, period_s=0.01)
    sample.start(other, options={}, period_s=0.01)
    wait_for(lambda: bool(made.count and other.count))
    assert set(sample.stop(made)["channels"][0]["values"]) == {1.0}
    assert set(sample.stop(other)["channels"][0]["values"]) == {2.0}
    sample.start(made, options={}, period_s=0.01)
    sample.stop(made)


def test_too_many_readings_are_thinned(sample: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MOST_READINGS", 100)
    made = Made(lambda n: [], [channel("a"), channel("b")])
    poller = sample.Poller(made, made.channels, 0.001, math.inf)
    t_ns = 0
    for _ in range(1000):
        # The second channel is null now and then: each keeps its own readings.
        assert poller.keep(t_ns, [t_ns / 2, t_ns if t_ns % 3 else None]) is None
        assert poller.bound() is None
        t_ns += poller.period_ns
    answer = poller.answer()
    a, b = answer["channels"]
    assert answer["period_s"] == 0.001 * poller.thinned
    assert poller.thinned >= 16
    assert answer["notes"] == [f"over 100 readings: 1 poll of {poller.thinned} was kept"]
    assert len(a["t_ns"]) + len(b["t_ns"]) <= 100
    # All of the time is still there, evenly, and each value with its own time.
    gaps = np.diff(a["t_ns"]) / 1e9 / answer["period_s"]
    assert a["t_ns"][0] == 0
    assert gaps.min() >= 1
    assert gaps.max() <= 1.5
    assert a["values"] == [t / 2 for t in a["t_ns"]]
    assert b["values"] == b["t_ns"]


def test_thinning_goes_on_while_polling(
    sample: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "MOST_READINGS", 10)
    answer = poll(sample, Made(lambda n: [n]), 12)
    assert answer["period_s"] >= 0.002
    assert len(answer["channels"][0]["values"]) <= 10
    assert answer["errors"] == []


def test_counter_that_may_not_be_polled_slower_ends_polling(
    sample: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "MOST_READINGS", 20)
    made = Made(lambda n: [float(n)], [channel("a", "energy", counter_range=6.0)])
    answer = poll(sample, made, 100)
    assert answer["channels"][0]["values"] == [float(n) for n in range(21)]
    assert answer["errors"] == [
        "20 readings, more are not kept, and a counter wraps too soon to poll slower;"
        " polling ended after 21 polls"
    ]
