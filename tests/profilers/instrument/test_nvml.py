"""NVML's channels against the stand-in binding: order of choice, units, what is not supported."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKES = Path(__file__).parents[2] / "fakes"
ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
PART_TIME = (
    "Stand-in GPU is of a generation whose power sensor, and so its energy counter, was found to"
    " look 25 % of the time (arXiv 2312.02741, A100 and H100): windows of 5 s or more"
)


@pytest.fixture
def pynvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in, fresh; whoever leaves the library initialised fails."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    import pynvml as stand_in

    yield stand_in
    assert not stand_in._users
    sys.modules.pop("pynvml", None)


class Clock:
    """Time that passes only where someone sleeps."""

    def __init__(self) -> None:
        self.now_s = 500.0

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nvml(
    load: Callable[[str], ModuleType],
    pynvml: ModuleType,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ModuleType]:
    program = load("nvml")
    monkeypatch.setattr(program, "time", clock)
    monkeypatch.setattr(pynvml, "now", clock.perf_counter)
    pynvml.boards = [pynvml.Board()]
    yield program
    program.close()


def channels(answer: dict[str, Any]) -> dict[str, Any]:
    return {c["name"]: c for c in answer["channels"]}


def test_energy_counter_temperature_and_clock(
    nvml: ModuleType, pynvml: ModuleType, clock: Clock
) -> None:
    pynvml.boards = [pynvml.Board(energy_mj=123_456_700, energy_period_s=0.02, power_mw=50_000)]
    answer = nvml.open({})
    energy = channels(answer)["energy"]
    assert energy.pop("period_s") == pytest.approx(0.02, abs=1e-9)
    assert answer == {
        "channels": [
            {
                "name": "energy",
                "quantity": "energy",
                "unit": "J",
                "scope": "gpu-0 board",
                "counter_range": None,
                "window_s": 5.0,
                "total": True,
            },
            *(
                {
                    "name": name,
                    "quantity": quantity,
                    "unit": unit,
                    "scope": "gpu-0 board",
                    "counter_range": None,
                    "period_s": 0.1,
                    "window_s": None,
                    "total": False,
                }
                for name, quantity, unit in [
                    ("temperature", "temperature", "°C"),
                    ("sm_clock", "clock", "Hz"),
                ]
            ),
        ],
        "notes": [PART_TIME],
        "bus_id": "0000:01:00.0",
        "virtual": True,
    }
    # mJ, whole degrees and MHz; opening watched eleven steps of 50 W x 20 ms.
    assert nvml.read() == [123467.7, 41.0, 1_410_000_000.0]
    clock.sleep(0.02)
    assert nvml.read() == [123468.7, 41.0, 1_410_000_000.0]


@pytest.mark.parametrize("period_s", [0.005, 0.02, 0.0337, 0.1])
def test_the_counters_period_is_measured(
    nvml: ModuleType, pynvml: ModuleType, clock: Clock, period_s: float
) -> None:
    board = pynvml.Board(energy_period_s=period_s)
    pynvml.boards = [board]
    clock.sleep(0.6 * period_s)
    began = clock.now_s
    assert channels(nvml.open({}))["energy"]["period_s"] == pytest.approx(period_s, abs=0.0011)
    assert clock.now_s - began < 11.1 * period_s + 0.02


@pytest.mark.parametrize("period_s", [None, 3.0])
def test_a_counter_that_does_not_move_leaves_it_to_power(
    nvml: ModuleType, pynvml: ModuleType, clock: Clock, period_s: float | None
) -> None:
    pynvml.boards = [pynvml.Board(energy_period_s=period_s)]
    began = clock.now_s
    answer = nvml.open({})
    assert list(channels(answer)) == ["power", "temperature", "sm_clock"]
    assert channels(answer)["power"]["total"]
    assert answer["notes"][0] == "energy: the counter did not move in 5 s; not used"
    assert clock.now_s - began == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(
    ("capability", "window_s"), [((7, 0), None), ((8, 0), 5.0), ((8, 9), None), ((9, 0), 5.0)]
)
def test_boards_that_look_part_of_the_time_ask_for_longer_windows(
    nvml: ModuleType, pynvml: ModuleType, capability: tuple[int, int], window_s: float | None
) -> None:
    pynvml.boards = [pynvml.Board(compute_capability=capability)]
    answer = nvml.open({})
    assert channels(answer)["energy"]["window_s"] == window_s
    assert answer["notes"] == ([PART_TIME] if window_s else [])


def test_what_held_the_clocks_down_is_told_at_the_end(
    nvml: ModuleType, pynvml: ModuleType, clock: Clock
) -> None:
    board = pynvml.Board()
    pynvml.boards = [board]
    nvml.open({})
    for reasons in (0x1, 0x4, 0x4, 0x44):
        board.throttle_reasons = reasons
        for _ in range(20):
            nvml.read()
            clock.sleep(0.0051)
    assert nvml.close() == {
        "notes": [
            "clocks were held down by the power limit in 75 % of 4 looks",
            "clocks were held down by heat, by the hardware in 25 % of 4 looks",
        ]
    }
    assert nvml.close() == {"notes": []}


def test_instant_power_where_there_is_no_counter(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = [pynvml.Board(compute_capability=(6, 1), power_mw=75_123)]
    answer = nvml.open({})
    power = channels(answer)["power"]
    assert list(channels(answer)) == ["power", "temperature", "sm_clock"]
    assert (power["quantity"], power["unit"], power["total"]) == ("power", "W", True)
    assert (power["scope"], power["period_s"]) == ("gpu-0 board, instant", 0.1)
    assert answer["notes"] == ["energy: Not Supported"]
    assert nvml.read()[0] == 75.123


@pytest.mark.parametrize(
    ("compute_capability", "scope", "period_s"),
    [
        ((7, 5), "gpu-0 board, instant", 0.1),
        ((8, 0), "gpu-0 board, instant", 0.1),
        ((8, 6), "gpu-0 board, mean of the last second", 1.0),
        ((9, 0), "gpu-0 board, mean of the last second", 1.0),
    ],
)
def test_power_usage_states_its_averaging(
    nvml: ModuleType,
    pynvml: ModuleType,
    compute_capability: tuple[int, int],
    scope: str,
    period_s: float,
) -> None:
    unsupported = [ENERGY, "power_instant"]
    pynvml.boards = [pynvml.Board(compute_capability=compute_capability, unsupported=unsupported)]
    answer = nvml.open({})
    usage = channels(answer)["power_usage"]
    assert (usage["scope"], usage["period_s"], usage["total"]) == (scope, period_s, True)
    assert answer["notes"][:2] == ["energy: Not Supported", "power: Not Supported"]
    assert nvml.read()[0] == 61.5


def test_device_is_chosen_by_index(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = [pynvml.Board(), pynvml.Board(energy_mj=5, power_mw=50_000)]
    answer = nvml.open({"device": 1})
    assert channels(answer)["energy"]["scope"] == "gpu-1 board"
    assert nvml.read()[0] == 11.005


@pytest.mark.parametrize("device", [2, -1, "0", True, 1.0])
def test_device_that_is_not_there(nvml: ModuleType, pynvml: ModuleType, device: object) -> None:
    pynvml.boards = [pynvml.Board(), pynvml.Board()]
    with pytest.raises(nvml.BadInput, match=r"the driver sees 2 GPU\(s\)") as caught:
        nvml.open({"device": device})
    assert caught.value.hint == "Give a number from 0 to 1."


def test_unknown_option_is_refused(nvml: ModuleType) -> None:
    with pytest.raises(nvml.BadInput, match="'gpu'"):
        nvml.open({"gpu": 0})


def test_mig_shares_the_counter(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = [pynvml.Board(mig=pynvml.NVML_DEVICE_MIG_ENABLE)]
    answer = nvml.open({})
    assert {c["scope"] for c in answer["channels"]} == {"shared"}
    assert not any(c["total"] for c in answer["channels"])
    assert answer["notes"][-1] == (
        "no total: MIG splits this GPU, and its readings are of all instances"
    )


def test_mig_switched_off_is_a_whole_board(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = [pynvml.Board(mig=pynvml.NVML_DEVICE_MIG_DISABLE)]
    assert channels(nvml.open({}))["energy"]["total"]


def test_jetson_supports_nothing_and_points_at_its_own_sensors(
    nvml: ModuleType, pynvml: ModuleType
) -> None:
    pynvml.boards = [pynvml.Board(name="Orin (nvgpu)", unsupported="all")]
    for call in (lambda: nvml.open({}), nvml.probe):
        with pytest.raises(nvml.Missing) as caught:
            call()
        assert str(caught.value) == (
            "the driver of Orin (nvgpu) tells no energy, power, temperature or clock"
            " (energy: Not Supported)"
        )
        assert "jetson" in caught.value.hint


def test_temperature_alone_opens_and_says_why_power_is_null(
    nvml: ModuleType, pynvml: ModuleType
) -> None:
    unsupported = [ENERGY, "power_instant", "nvmlDeviceGetPowerUsage"]
    pynvml.boards = [pynvml.Board(unsupported=unsupported)]
    answer = nvml.open({})
    assert list(channels(answer)) == ["temperature", "sm_clock"]
    assert answer["notes"][-1].startswith("no total: the driver tells neither energy nor power")


def test_no_binding(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    program = load("nvml")
    for call in (lambda: program.open({}), program.probe):
        with pytest.raises(program.Missing, match="nvidia-ml-py is not installed") as caught:
            call()
        assert caught.value.hint == "pip install nvidia-ml-py"
    program.close()


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "no NVIDIA driver", "Install the NVIDIA driver"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "not loaded", "sudo modprobe nvidia"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "version mismatch", "nvidia-smi"),
    ],
)
def test_no_driver(
    nvml: ModuleType, pynvml: ModuleType, code: str, message: str, hint: str
) -> None:
    pynvml.init_error = getattr(pynvml, code)
    for call in (lambda: nvml.open({}), nvml.probe):
        with pytest.raises(nvml.Missing, match=message) as caught:
            call()
        assert hint in caught.value.hint


def test_no_gpu(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = []
    for call in (lambda: nvml.open({}), nvml.probe):
        with pytest.raises(nvml.Missing, match="sees no GPU"):
            call()


def test_probe_looks_beyond_the_first_gpu(nvml: ModuleType, pynvml: ModuleType) -> None:
    pynvml.boards = [pynvml.Board(unsupported="all"), pynvml.Board()]
    tools = nvml.probe()["tools"]
    assert tools["nvidia-driver"] == "999.0-stand-in"
    assert tools["nvidia-ml-py"] == "13.615.71+standin"


def test_reading_that_fails_is_null_and_a_lost_gpu_ends_it(
    nvml: ModuleType, pynvml: ModuleType, clock: Clock
) -> None:
    board = pynvml.Board(power_mw=50_000)
    pynvml.boards = [board]
    nvml.open({})
    board.unsupported = ["nvmlDeviceGetTemperature"]
    # temperature and clock are asked for every 0.1 s
    clock.sleep(0.1)
    energy_j = 1000 + 50 * (0.22 + 0.1)
    assert nvml.read() == [pytest.approx(energy_j), None, 1_410_000_000.0]
    board.failing = pynvml.NVML_ERROR_TIMEOUT
    clock.sleep(0.1)
    assert nvml.read() == [None, None, None]
    board.failing = pynvml.NVML_ERROR_GPU_IS_LOST
    with pytest.raises(pynvml.NVMLError_GpuIsLost, match="GPU is lost"):
        nvml.read()


def test_open_again_and_close_again(nvml: ModuleType, pynvml: ModuleType) -> None:
    nvml.open({})
    nvml.open({})
    assert len(pynvml._users) == 1
    nvml.close()
    nvml.close()
    assert not pynvml._users


def test_stand_in_refuses_what_the_package_refuses(pynvml: ModuleType) -> None:
    with pytest.raises(pynvml.NVMLError_Uninitialized, match="Uninitialized"):
        pynvml.nvmlDeviceGetHandleByIndex(0)
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(1)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetPowerUsage(0)
    pynvml.nvmlShutdown()
