"""The loop that times: warm-up, windows, samples and streams, on made-up runtimes."""

import base64
import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import PLAN, runtime

from edgedeploy._inproc import measure

MS = 1_000_000


class Clock:
    """A clock that only moves when a call takes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**9
        self.calls = 0
        monkeypatch.setattr(measure, "clock", lambda: self.now_ns)

    def taking(self, seconds: Callable[[int], float]) -> Callable[[], None]:
        def call() -> None:
            self.now_ns += int(seconds(self.calls) * 1e9)
            self.calls += 1

        return call


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_warm_up_ends_when_steady(ticking: Clock) -> None:
    window = measure.warm_up(ticking.taking(lambda _: 0.001), 0.0, 10.0)
    assert window["steady"] is True
    assert window["phase"] == "warm_up"
    # three blocks of 30 ms agree
    assert window["count"] == ticking.calls == 90
    assert window["end_ns"] - window["start_ns"] == 90 * MS


def test_warm_up_goes_on_while_calls_get_faster(ticking: Clock) -> None:
    # the first 100 calls get faster by 1 % each, then 1 ms
    window = measure.warm_up(ticking.taking(lambda i: 0.001 * 1.01 ** max(0, 100 - i)), 0.0, 10.0)
    assert window["steady"] is True
    assert 100 < window["count"] < 250


def test_warm_up_lasts_its_minimum(ticking: Clock) -> None:
    window = measure.warm_up(ticking.taking(lambda _: 0.001), 0.5, 10.0)
    assert window["steady"] is True
    assert 500 <= window["count"] <= 530


def test_warm_up_that_never_settles_ends_at_its_limit(ticking: Clock) -> None:
    window = measure.warm_up(ticking.taking(lambda i: 0.001 * 1.02**i), 0.0, 2.0)
    assert window["steady"] is False
    assert 2.0 <= (window["end_ns"] - window["start_ns"]) / 1e9 < 2.1


@pytest.mark.parametrize(("seconds", "count"), [(0.7, 6), (0.2, 15), (1.5, 3)])
def test_warm_up_of_slow_calls(ticking: Clock, seconds: float, count: int) -> None:
    window = measure.warm_up(ticking.taking(lambda _: seconds), 0.2, 10.0)
    assert (window["steady"], window["count"]) == (True, count)


def test_latency_count_is_exact_and_samples_do_not_overlap() -> None:
    called: list[int] = []
    window, starts, durations = measure.latency(lambda: called.append(0), 5.0, 9.0, 99, 37)
    assert len(called) == len(starts) == len(durations) == window["count"] == 37
    assert all(duration > 0 for duration in durations)
    ends = [start + duration for start, duration in zip(starts, durations, strict=True)]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert window["start_ns"] <= starts[0]
    assert ends[-1] <= window["end_ns"]
    assert window["phase"] == "latency"
    assert window["concurrency"] == 1


@pytest.mark.parametrize(
    ("seconds", "least_s", "most_s", "least", "expected"),
    [
        (0.001, 0.5, 10.0, 100, 500),  # the time is reached after the number
        (0.001, 0.05, 10.0, 100, 100),  # the number after the time
        (0.1, 0.5, 2.0, 100, 20),  # and the limit before the number
    ],
)
def test_latency_lasts_until_time_and_number_are_reached(
    ticking: Clock, seconds: float, least_s: float, most_s: float, *, least: int, expected: int
) -> None:
    call = ticking.taking(lambda _: seconds)
    window, _, durations = measure.latency(call, least_s, most_s, least, None)
    assert window["count"] == expected
    assert set(durations) == {int(seconds * 1e9)}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_while_timing(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        seen: list[bool] = []
        measure.latency(lambda: seen.append(gc.isenabled()), 0.0, 1.0, 3, 3)
        assert seen == [False] * 3
        assert gc.isenabled() == enabled
        with pytest.raises(ZeroDivisionError):
            measure.latency(lambda: 1 / 0, 0.0, 1.0, 3, 3)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def streams(call: Callable[[], object], **options: Any) -> dict[str, Any]:
    made = []

    def bind(sample: dict[str, Any]) -> Callable[[], object]:
        made.append(sample)
        return call

    arguments = {"seconds": 0.2, "concurrency": None, **options}
    windows = measure.throughput(
        bind, call, {"x": 1}, arguments["seconds"], arguments["concurrency"]
    )
    assert len(windows) == 1
    assert windows[0]["phase"] == "throughput"
    return {**windows[0], "bound": len(made)}


def test_more_streams_are_found_where_they_pay() -> None:
    window = streams(lambda: time.sleep(0.005))
    assert window["concurrency"] >= 8
    rate = window["count"] / ((window["end_ns"] - window["start_ns"]) / 1e9)
    assert rate > 6 / 0.005 * 0.5
    assert window["bound"] >= window["concurrency"] - 1


def test_one_stream_stays_where_a_lock_makes_them_wait() -> None:
    lock = threading.Lock()
    inside: list[None] = []

    def call() -> None:
        inside.append(None)
        with lock:
            time.sleep(0.004 + 0.001 * len(inside))  # waiting for one another costs something
            inside.pop()

    window = streams(call, seconds=0.3)
    assert window["concurrency"] == 1
    assert window["bound"] == 1  # the second was tried
    assert 20 <= window["count"] <= 61


def test_the_streams_asked_for_are_all_tried() -> None:
    window = streams(lambda: time.sleep(0.002), concurrency=[1, 3])
    assert window["concurrency"] == 3
    assert window["bound"] == 2
    assert streams(lambda: time.sleep(0.002), concurrency=[2])["concurrency"] == 2


def test_no_throughput_where_none_is_asked() -> None:
    called: list[int] = []

    def bind(_: dict[str, Any]) -> Callable[[], None]:
        called.append(1)
        return lambda: None

    assert measure.throughput(bind, lambda: called.append(0), {}, 0.0, None) == []
    assert called == []


def test_what_a_stream_raises_comes_out() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            message = "device lost"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="device lost"):
        streams(call)
    assert threading.active_count() < 10


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_infer_equals_runs_one_by_one(tmp_path: Path, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(count, 1, 2)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    events: list[dict[str, Any]] = []
    answer = measure.infer(
        runtime(), events.append, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")
    )
    assert answer["count"] == count
    assert answer["elapsed_s"] > 0
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_array_equal(out["y"], 2 * x)
        np.testing.assert_allclose(out["total"], 2 * x.sum(axis=(1, 2)), rtol=1e-5)
        assert out["y"].dtype == np.float32
    assert [event["done"] for event in events] == list(range(64, count + 1, 64))


def test_profile_has_its_phases_in_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((3, 1, 2), np.float32))
    events: list[dict[str, Any]] = []
    answer = measure.profile(runtime(), events.append, str(tmp_path / "in.npz"), PLAN)
    phases = ["idle", "warm_up", "latency", "throughput", "cool_down"]
    windows = answer["windows"]
    assert [window["phase"] for window in windows] == phases
    assert [event["phase"] for event in events if event["event"] == "progress"] == phases
    for earlier, later in itertools.pairwise(windows):
        assert earlier["start_ns"] < earlier["end_ns"] <= later["start_ns"]
    assert windows[0]["end_ns"] - windows[0]["start_ns"] >= 0.01e9
    (packed,) = [event for event in events if event["event"] == "latency"]
    starts, durations = (
        np.frombuffer(base64.b64decode(packed[key]), dtype="<i8")
        for key in ("start_ns", "duration_ns")
    )
    assert len(starts) == len(durations) == windows[2]["count"] == 50
    assert windows[2]["start_ns"] <= starts[0] < starts[-1] < windows[2]["end_ns"]
    assert answer["cpu_s_per_inference"] >= 0
    assert answer["device_memory_bytes"] == {"device": 5}
    # what the runtime says of itself comes before what the host says
    assert answer["facts"]["cores"] == answer["facts_after"]["cores"] == 99
    assert answer["facts"]["tools"] == {"vendor": "1"}


def test_packed_numbers_are_little_endian(monkeypatch: pytest.MonkeyPatch) -> None:
    import array

    values = array.array("q", [1, -2, 2**62])
    text = measure._packed(values)
    assert np.frombuffer(base64.b64decode(text), "<i8").tolist() == [1, -2, 2**62]
    monkeypatch.setattr(sys, "byteorder", "big")
    swapped = base64.b64decode(measure._packed(values))
    assert np.frombuffer(swapped, ">i8").tolist() == [1, -2, 2**62]
    assert values.tolist() == [1, -2, 2**62]


def test_layers_are_of_the_first_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.arange(6.0).reshape(3, 1, 2))
    seen: dict[str, Any] = {}

    def layers(inputs: dict[str, Any], count: int) -> list[dict[str, Any]]:
        seen.update(inputs, count=count)
        return []

    program = runtime(layers=layers)
    assert measure.layers(program, print, str(tmp_path / "in.npz"), 20) == {"layers": []}
    assert seen["x"].tolist() == [[0.0, 1.0]]
    assert seen["count"] == 20
