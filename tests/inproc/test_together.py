"""Several models on one device at once, on made-up runtimes, and inferences started ahead."""

import base64
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedeploy._inproc import measure, together


def program(*, fails: bool = False) -> types.SimpleNamespace:
    """One device that does one inference at a time: 2 ms of the first model, 4 ms of the other."""
    chip = threading.Lock()

    def inference(seconds: float) -> Callable[[], None]:
        def call() -> None:
            if fails and seconds > 0.003:
                message = "the chip went away"
                raise OSError(message)
            with chip:
                time.sleep(seconds)

        return call

    loaded: list[str] = []
    return types.SimpleNamespace(
        loaded=loaded,
        bind=lambda inputs: inference(0.002),
        beside=lambda artifact, options: loaded.append(artifact),
        bind_beside=lambda place, inputs: inference(0.004),
    )


@pytest.fixture
def inputs(tmp_path: Path) -> str:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.zeros((3, 1, 2), np.float32))
    return str(path)


def run(found: Any, inputs: str, seconds: float = 0.4) -> dict[str, Any]:
    others = [{"artifact": "b.bin", "inputs": inputs, "options": {}}]
    return together.measure(found, lambda _: None, inputs=inputs, others=others, seconds=seconds)


def test_models_share_a_device_that_each_alone_has_whole(inputs: str) -> None:
    found = program()
    answer = run(found, inputs)
    assert found.loaded == ["b.bin"]
    first, second = answer["models"]
    assert first["alone_rate_hz"] > 1.5 * second["alone_rate_hz"]
    for model in (first, second):
        durations = np.frombuffer(base64.b64decode(model["duration_ns"]), dtype="<i8")
        assert len(durations) == model["count"] > 5
        assert model["count"] / answer["window_s"] < 0.9 * model["alone_rate_hz"]
        assert durations.min() >= 2e6
    busy_s = 0.002 * first["count"] + 0.004 * second["count"]
    assert busy_s <= answer["window_s"]


def test_what_one_model_raises_ends_all(inputs: str) -> None:
    with pytest.raises(OSError, match="the chip went away"):
        run(program(fails=True), inputs)


def test_inferences_started_ahead_fill_a_pipeline() -> None:
    """Ten may be under way in it, each takes 5 ms: one at a time it does 200 a second."""
    most, under_way = [0], [0]

    def bind_async(_: dict[str, Any]) -> Callable[[], Callable[[], None]]:
        def start() -> Callable[[], None]:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            ready = time.perf_counter() + 0.005

            def wait() -> None:
                time.sleep(max(0.0, ready - time.perf_counter()))
                under_way[0] -= 1

            return wait

        return start

    def never(_: dict[str, Any]) -> Callable[[], None]:
        pytest.fail("the blocking call was bound")

    (window,) = measure.throughput(never, lambda: None, {}, 0.3, None, bind_async=bind_async)
    assert window["concurrency"] == most[0] >= 8
    assert under_way == [0]
    assert window["count"] / ((window["end_ns"] - window["start_ns"]) / 1e9) > 800


def test_a_stream_that_no_memory_is_left_for_ends_the_search() -> None:
    bound: list[int] = []

    def bind(_: dict[str, Any]) -> Callable[[], None]:
        if len(bound) == 2:
            message = "out of device memory"
            raise MemoryError(message)
        bound.append(1)
        return lambda: time.sleep(0.005)

    (window,) = measure.throughput(bind, lambda: time.sleep(0.005), {}, 0.1, None)
    assert window["concurrency"] == 2
    with pytest.raises(MemoryError):
        measure.throughput(bind, lambda: None, {}, 0.1, [4])
