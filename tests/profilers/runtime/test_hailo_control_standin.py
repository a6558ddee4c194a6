"""The stand-in for HailoRT: versions that do not match, and what a chip's firmware tells."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hailo_standin import FAKES, State, forget


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("HAILO_STANDIN_STATE", str(tmp_path / "state"))
    return State(tmp_path / "state")


@pytest.fixture
def rt(state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, fresh, on a machine with one Hailo-8."""
    monkeypatch.syspath_prepend(str(FAKES))
    forget()
    import hailo_platform

    yield hailo_platform
    forget()


def test_versions_that_do_not_match(
    rt: ModuleType, state: State, capfd: pytest.CaptureFixture[str]
) -> None:
    state(driver_version="4.20.0")
    with pytest.raises(rt.HailoRTException, match=r"76 \(HAILO_INVALID_DRIVER_VERSION\)"):
        rt.VDevice()
    wanted = "Driver version (4.20.0) is different from library version (4.23.0)"
    assert f"[HailoRT] [error] CHECK failed - {wanted}" in capfd.readouterr().err
    # not wrapped there either: the bare status, and no HailoRTException
    with pytest.raises(rt.pyhailort._pyhailort.HailoRTStatusException, match=r"^76$"):
        rt.Device()
    state(firmware_version="4.20.0")
    with rt.Device() as device:
        assert str(device.control.identify().firmware_version) == "4.20.0 (release,app)"
        with pytest.raises(rt.HailoRTException, match=r"16 \(HAILO_UNSUPPORTED_FW_VERSION\)"):
            device.control.get_chip_temperature()
    state(library_version="4.20.0")
    forget()
    with pytest.raises(ImportError, match=r"4\.20\.0.*does not match pyhailort version"):
        __import__("hailo_platform")


def test_control(rt: ModuleType, state: State) -> None:
    state(devices=[{"temperature_c": 51.0, "clock_hz": 200_000_000}, {}])
    assert rt.Device.scan() == ["0000:01:00.0", "0000:02:00.0"]
    device = rt.Device("0000:01:00.0")
    control = device.control
    board = control.identify()
    assert (board.device_architecture.name, board.protocol_version) == ("HAILO8", 2)
    assert control.get_extended_device_information().neural_network_core_clock_rate == 200_000_000
    assert control.get_chip_temperature().ts0_temperature == 51.0
    assert control.get_throttling_state() is True
    control.set_throttling_state(False)
    assert control.get_throttling_state() is False
    device.release()
    with pytest.raises(rt.HailoRTException, match="The device in use has been released"):
        control.identify()
    state(board_name="Hailo-8")
    with pytest.raises(ValueError, match="does not say that it is a stand-in"):
        rt.Device()
    state(power=3)
    with pytest.raises(ValueError, match=r"unknown \['power'\]"):
        rt.Device()


def test_power(rt: ModuleType, state: State) -> None:
    refused = rt.pyhailort.errors.HailoRTFirmwareControlFailedException
    with rt.Device() as device:
        control = device.control
        assert control.power_measurement() == 2.5
        assert control.power_measurement(
            rt.DvmTypes.OVERCURRENT_PROTECTION, rt.PowerMeasurementTypes.CURRENT
        ) == pytest.approx(757.6, abs=0.1)
        with pytest.raises(refused):
            control.power_measurement(rt.DvmTypes.VDD_CORE)
        with pytest.raises(TypeError):
            control.power_measurement(0)
        control.stop_power_measurement()
        with pytest.raises(refused):
            control.start_power_measurement()
        control.set_power_measurement()
        control.start_power_measurement(
            rt.AveragingFactor.AVERAGE_16, rt.SamplingPeriod.PERIOD_140us
        )
        with pytest.raises(refused):
            control.start_power_measurement()
        time.sleep(0.05)
        state(power_w=3.0, power_samples_lost=0.5)
        found = control.get_power_measurement(should_clear=False)
        assert found.average_time_value_milliseconds == 5.0
        assert 4 <= found.total_number_of_samples <= 40
        assert found.min_value < found.average_value == 3.0 < found.max_value
        control.stop_power_measurement()
        assert control.get_power_measurement().total_number_of_samples == 0
    state(power_sensor=False)
    with rt.Device() as device:
        for call in (device.control.power_measurement, device.control.set_power_measurement):
            with pytest.raises(refused, match="libhailort control operation failed"):
                call()
