"""A Hailo module's channels against the stand-in: scopes, losses, order of calls, what lacks."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
FAKES = ROOT / "tests" / "fakes"
State = Callable[..., None]
PACKAGE = "hailo_platform"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next import load the stand-in anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    """Say what the stand-in's machine is; else it is one module with a sensor at 2.5 W."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(tmp_path))
    forget(monkeypatch)

    def said(**values: Any) -> None:
        (tmp_path / "state.json").write_text(json.dumps(values), encoding="utf-8")

    yield said
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def hailo(load: Callable[[str], ModuleType], state: State) -> Iterator[ModuleType]:
    program = load("hailo")
    yield program
    program.close()


@pytest.fixture
def control(state: State) -> Any:
    """The stand-in's class of what a device's firmware is asked."""
    from hailo_platform.pyhailort.control import Control

    return Control


@pytest.fixture
def sample() -> ModuleType:
    """A fresh copy of the loop that polls instruments."""
    spec = importlib.util.spec_from_file_location("s", ROOT / "edgedeploy/_inproc/sample.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusing(*_: Any, **__: Any) -> None:
    from hailo_platform import HailoRTException

    message = "libhailort failed with error: 18 (HAILO_FW_CONTROL_FAILURE)"
    raise HailoRTException(message)


def first_power_w(hailo: ModuleType) -> float:
    """The first reading of power that there is."""
    for _ in range(100):
        time.sleep(0.01)
        if (value := hailo.read()[0]) is not None:
            return float(value)
    pytest.fail("no power was read in a second")


def test_a_module_gives_all_its_power_temperature_and_clock(
    hailo: ModuleType, state: State
) -> None:
    state(power_w=3.25, temperature_c=51.0, clock_hz=400_000_000)
    assert hailo.open({}) == {
        "channels": [
            {
                "name": name,
                "quantity": name,
                "unit": unit,
                "scope": scope,
                "counter_range": None,
                "period_s": period_s,
                "total": total,
            }
            for name, unit, scope, period_s, total in [
                ("power", "W", "module", 2 * 140e-6 * 16, True),
                ("temperature", "°C", "chip", 0.5, False),
                ("clock", "Hz", "neural core", 0.5, False),
            ]
        ],
        "notes": [],
        "virtual": True,
    }
    assert first_power_w(hailo) == 3.25
    assert hailo.read()[1:] == [51.25, 400_000_000.0]  # the mean of two sensors
    notes = hailo.close()["notes"]
    assert notes[-1:] == [
        "power: its sensor is that of the module's overcurrent protection, which was off meanwhile",
    ]
    assert hailo.close() == {"notes": []}
    assert hailo.read() == []


def test_before_and_after_are_told_apart(hailo: ModuleType, state: State) -> None:
    hailo.open({})
    state(temperature_c=88.0, clock_hz=200_000_000, throttling_enabled=False)
    assert hailo.close()["notes"][-2:] == [
        "neural core clock: 400 MHz before, 200 MHz after",
        "throttling by heat or current: enabled before, disabled after",
    ]


def test_slow_quantities_are_asked_for_seldom(
    hailo: ModuleType, state: State, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = control.get_chip_temperature
    monkeypatch.setattr(control, "get_chip_temperature", lambda c: asked.append(1) or real(c))
    hailo.open({})
    readings = [hailo.read()[1] for _ in range(20)]
    assert readings == [45.25] * 20
    assert len(asked) == 2  # once when opened, once when read


def test_an_evaluation_board_gives_its_core(hailo: ModuleType, state: State) -> None:
    state(evaluation_board=True, power_sensor=False, power_w=1.75)
    answer = hailo.open({})
    power = answer["channels"][0]
    assert (power["name"], power["scope"], power["total"]) == ("power", "core", False)
    assert answer["notes"] == [
        "no total: an evaluation board has no sensor of the whole; power is the sum of VDD_CORE,"
        " MIPI_AVDD and AVDD_H, about what the chip takes"
    ]
    assert first_power_w(hailo) == 1.75
    assert not [note for note in hailo.close()["notes"] if "overcurrent protection" in note]


def test_a_board_without_a_sensor_says_so_and_gives_the_rest(
    hailo: ModuleType, state: State
) -> None:
    state(power_sensor=False)
    answer = hailo.open({})
    assert [channel["name"] for channel in answer["channels"]] == ["temperature", "clock"]
    assert not any(channel["total"] for channel in answer["channels"])
    (note,) = answer["notes"]
    assert note.startswith("no power: its firmware reads no power sensor on this board. M.2 and")
    assert "instrument hwmon" in note
    assert hailo.read() == [45.25, 400_000_000.0]
    assert hailo.close()["notes"] == []


def test_a_chip_that_tells_nothing_is_missing(hailo: ModuleType, state: State) -> None:
    state(power_sensor=False, firmware_version="4.20.0")
    with pytest.raises(hailo.Missing, match="tells no temperature and no clock") as caught:
        hailo.open({})
    assert "driver, library and firmware of one version" in caught.value.hint
    assert "Put a meter" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"driver_version": "4.22.0"}, "HailoRT cannot open the chip 0000:01:00.0: 76"),
        ({"devices": []}, "HailoRT sees no chip on this host"),
        ({"library_version": "4.22.0"}, r"cannot be imported: libhailort version \(4.22.0\)"),
    ],
)
def test_what_does_not_fit_together_is_missing(
    hailo: ModuleType, state: State, values: dict[str, Any], message: str
) -> None:
    state(**values)
    with pytest.raises(hailo.Missing, match=message) as caught:
        hailo.open({})
    assert "hailo" in caught.value.hint


def test_no_package(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    program = load("hailo")
    for call in (lambda: program.open({}), program.probe):
        with pytest.raises(program.Missing, match="hailo_platform cannot be imported") as caught:
            call()
        assert "EDGEDEPLOY_PYTHON_INSTRUMENT_HAILO" in caught.value.hint


def test_probe_names_the_version_and_wants_a_chip(hailo: ModuleType, state: State) -> None:
    assert hailo.probe() == {"tools": {"hailort": "4.23.0+standin"}}
    state(devices=[])
    with pytest.raises(hailo.Missing, match="sees no chip"):
        hailo.probe()


def test_the_chip_is_chosen_by_its_id(hailo: ModuleType, state: State) -> None:
    state(devices=[{"power_w": 1.0}, {"power_w": 4.0}])
    hailo.open({"device_id": "0000:02:00.0"})
    assert first_power_w(hailo) == 4.0
    with pytest.raises(hailo.BadInput, match=r"sees 0000:01:00.0, 0000:02:00.0") as caught:
        hailo.open({"device_id": "0000:03:00.0"})
    assert "hailortcli scan" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"averageing": 16}, "no option 'averageing'", "Known: device_id, sampling_period_us, a"),
        ({"averaging": 17}, "averaging is 17", "One of 1, 4, 16, 64, 128, 256, 512, 1024."),
        ({"averaging": True}, "averaging is True", "One of 1, 4"),
        ({"sampling_period_us": "140"}, "sampling_period_us is '140'", "One of 140, 204"),
    ],
)
def test_a_wrong_option_is_refused(
    hailo: ModuleType, options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(hailo.BadInput, match=message) as caught:
        hailo.open(options)
    assert caught.value.hint.startswith(hint)


def test_the_order_of_calls(
    hailo: ModuleType, state: State, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before it is set, read before it is stopped, cleared at each reading."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(control, name)

        def call(this: Any, **arguments: Any) -> Any:
            calls.append((name.partition("_")[0], arguments))
            return real(this, **arguments)

        return call

    for name in ("stop", "set", "start", "get"):
        full = f"{name}_power_measurement"
        monkeypatch.setattr(control, full, noted(full))
    hailo.open({"sampling_period_us": 1100, "averaging": 4})
    hailo.close()
    names = [name for name, _ in calls]
    assert names[:5] == ["stop", "set", "stop", "set", "start"]  # the first asks what board it is
    assert set(names[5:-1]) == {"get"}
    assert names[-1] == "stop"
    rails = [given["dvm"].name for name, given in calls if name == "set"]
    assert rails == ["VDD_CORE", "OVERCURRENT_PROTECTION"]
    started = calls[4][1]
    assert started["averaging_factor"].name == "AVERAGE_4"
    assert started["sampling_period"].name == "PERIOD_1100us"
    assert all(given["should_clear"] is True for name, given in calls if name == "get")


def test_a_sensor_that_starts_and_stays_silent_is_none(
    hailo: ModuleType, state: State, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = SimpleNamespace(total_number_of_samples=0)
    monkeypatch.setattr(control, "get_power_measurement", lambda *_, **__: silent)
    answer = hailo.open({})
    assert [channel["name"] for channel in answer["channels"]] == ["temperature", "clock"]


def test_a_reading_that_fails_is_null_and_a_hundred_end_it(
    hailo: ModuleType, state: State, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hailo.open({})
    first_power_w(hailo)
    monkeypatch.setattr(control, "get_power_measurement", refusing)
    assert hailo.read() == [None, 45.25, 400_000_000.0]
    for _ in range(98):
        hailo.read()
    with pytest.raises(Exception, match="HAILO_FW_CONTROL_FAILURE"):
        hailo.read()


def test_an_end_that_fails_is_told_and_the_chip_let_go(
    hailo: ModuleType, state: State, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hailo_platform import Device

    released = []
    real = Device.release
    monkeypatch.setattr(Device, "release", lambda d: released.append(d.device_id) or real(d))
    hailo.open({})
    monkeypatch.setattr(control, "get_power_measurement", refusing)
    monkeypatch.setattr(control, "stop_power_measurement", refusing)
    notes = hailo.close()["notes"]
    assert notes[0].startswith("power: the last reading failed: libhailort failed with error: 18")
    assert any(note.startswith("power: the sensor could not be stopped: ") for note in notes)
    assert released[0] == "0000:01:00.0"


class Scripted:
    """A chip whose sensor gives so many values of 5 ms at each reading, on a clock of its own."""

    def __init__(self, hailo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.counts: list[int] = []
        self.hailo = SimpleNamespace(HailoRTException=RuntimeError)
        self.control = self
        self.buffer = 0
        monkeypatch.setattr(hailo, "time", SimpleNamespace(perf_counter=lambda: self.now_s))

    def get_power_measurement(self, *, buffer_index: int, should_clear: bool) -> Any:
        assert (buffer_index, should_clear) == (0, True)
        return SimpleNamespace(
            average_value=2.0,
            average_time_value_milliseconds=5.0,
            total_number_of_samples=self.counts.pop(0),
        )


@pytest.mark.parametrize(
    ("counts", "notes"),
    [
        ([2] * 100, []),
        ([1, 3] * 50, []),  # a value that falls into the next reading is not lost
        ([0, 4] * 50, []),
        (
            [2, 1] * 50,
            [
                "power: the sensor's 150 values cover 75 % of the 1 s it was polled for; the rest"
                " was not measured"
            ],
        ),
        (
            [2] * 45 + [0] * 10 + [2] * 45,
            [
                "power: the sensor's 180 values cover 90 % of the 1 s it was polled for; the rest"
                " was not measured",
                "power: no value for 0.1 s (one each 0.00448 s)",
            ],
        ),
        (
            [2] * 80 + [0] * 20,
            [
                "power: the sensor's 160 values cover 80 % of the 1 s it was polled for; the rest"
                " was not measured",
                "power: no value for 0.2 s (one each 0.00448 s)",
            ],
        ),
    ],
)
def test_values_are_counted_against_the_time_polled(
    hailo: ModuleType, monkeypatch: pytest.MonkeyPatch, counts: list[int], notes: list[str]
) -> None:
    chip = Scripted(hailo, monkeypatch)
    power = hailo.Power(chip, 2 * 140e-6 * 16, total=True)
    chip.counts = list(counts)
    for count in counts:
        chip.now_s += 0.01
        assert power.read() == (2.0 if count else None)
    assert power.losses() == notes


def test_polled_through_the_loop_that_all_instruments_share(
    hailo: ModuleType, state: State, sample: ModuleType
) -> None:
    state(power_w=2.0)
    opened = sample.start(hailo, options={"averaging": 16}, period_s=0.02)
    time.sleep(0.3)
    answer = sample.stop(hailo)
    assert opened["virtual"] is True
    assert opened["poll_period_s"] == 0.02
    assert answer["errors"] == []
    power, temperature, clock = answer["channels"]
    assert set(power["values"]) == {2.0}
    assert len(power["values"]) > 5
    assert temperature["values"][0] == 45.25
    assert len(clock["values"]) == answer["polls"]
    assert [note.partition(":")[0] for note in answer["notes"]] == ["power"]
