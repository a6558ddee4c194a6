"""The counter of a stand-in board read by the loop that polls, and the energy made of it."""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgedeploy._inproc import sample
from edgedeploy.energy import counter_delta, counter_period_s, too_short, window_needed_s

FAKES = Path(__file__).parents[2] / "fakes"
PERIOD_S = 0.006
POWER_W = 350.0


@pytest.fixture
def nvml(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    import pynvml

    pynvml.boards = [pynvml.Board(energy_period_s=PERIOD_S, power_mw=1000 * POWER_W)]
    yield load("nvml")
    sys.modules.pop("pynvml", None)


def test_two_windows_of_a_hundred_periods_agree_within_3_percent(nvml: ModuleType) -> None:
    opened = sample.start(nvml, options={}, period_s=0.002)
    channel = opened["channels"][0]
    needed_s = window_needed_s("energy", channel["period_s"])
    start_ns = time.perf_counter_ns()
    time.sleep(2.3 * needed_s)
    energy = sample.stop(nvml)["channels"][0]
    assert opened["virtual"]
    # asleep between two looks for a moment longer than asked, the program sees it late, never early
    assert channel["period_s"] == pytest.approx(PERIOD_S, rel=0.5)
    t_ns = np.asarray(energy["t_ns"], dtype=np.int64)
    values = np.asarray(energy["values"], dtype=np.float64)
    edges = [start_ns + round(share * needed_s * 1e9) for share in (0.05, 1.15, 2.25)]
    energies = []
    for window in pairwise(edges):
        period_s = counter_period_s(t_ns, values, *window, channel["period_s"])
        assert too_short(*window, period_s, "energy") is None
        energies.append(counter_delta(t_ns, values, *window, None).value)
    exact = POWER_W * 1.1 * needed_s
    assert energies == [pytest.approx(exact, rel=0.03)] * 2
