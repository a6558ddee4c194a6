"""A physical device and what its firmware tells and does: identity, temperature, power."""

import gc
from types import SimpleNamespace

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import (
    AveragingFactor,
    DvmTypes,
    MeasurementBufferIndex,
    PowerMeasurementTypes,
    SamplingPeriod,
)
from hailo_platform.pyhailort.errors import (
    ExceptionWrapper,
    HailoRTException,
    HailoRTInvalidOperationException,
)
from hailo_platform.standin import chip, power
from hailo_platform.standin.status import log, wanted

NOT_CONFIGURED = "<N/A>"
# throttling states that programs set, by chip; the state file says the others
_throttling = {}


class FirmwareVersion:
    """Major, minor, revision of a release firmware."""

    def __init__(self, version, core):
        self.major, self.minor, self.revision = chip.numbers(version)
        self.mode = SimpleNamespace(value="release", name="RELEASE")
        self.fw_type = SimpleNamespace(value=core, name=core.upper())
        self.extended_context_switch_buffer = False

    def __str__(self):
        numbers = f"{self.major}.{self.minor}.{self.revision}"
        return f"{numbers} ({self.mode.value},{self.fw_type.value})"

    @property
    def comparable_value(self):
        return (self.major << 64) + (self.minor << 32) + self.revision

    def __hash__(self):
        return self.comparable_value

    def __eq__(self, other):
        return self.comparable_value == other.comparable_value

    def __lt__(self, other):
        return self.comparable_value < other.comparable_value


class BoardInformation:
    """What `identify` answers."""

    def __init__(self, one):
        self.protocol_version = 2
        self.firmware_version = FirmwareVersion(one.firmware_version, "app")
        self.logger_version = 0
        self.board_name = one.board_name
        self.is_release = True
        self.device_architecture = _pyhailort.DeviceArchitecture[one.architecture]
        self.serial_number = one.serial_number
        self.part_number = one.part_number
        self.product_name = one.product_name

    def __str__(self):
        lines = {
            "Control Protocol Version": self.protocol_version,
            "Firmware Version": self.firmware_version,
            "Logger Version": self.logger_version,
            "Board Name": self.board_name,
            "Device Architecture": self.device_architecture.name,
            "Serial Number": self.serial_number or NOT_CONFIGURED,
            "Part Number": self.part_number or NOT_CONFIGURED,
            "Product Name": self.product_name or NOT_CONFIGURED,
        }
        return "".join(f"{name}: {value}\n" for name, value in lines.items())

    __repr__ = __str__


class Control:
    """The firmware of one device; only from `Device.control`."""

    def __init__(self, device):
        self.__device = device
        self._identify_info = self.identify()

    @property
    def _chip(self):
        if self.__device.released:
            message = (
                "The device in use has been released. This can happen if 'device.release()' has"
                " been called, or one-liner usage of control 'Device().control.XX()'"
            )
            raise HailoRTInvalidOperationException(message)
        device_id = self.__device.device_id
        return next(one for one in chip.machine().devices if one.id == device_id)

    @property
    def device_id(self):
        return self._chip.id

    def open(self):
        """Nothing to do."""

    def close(self):
        """Nothing to do."""

    def identify(self):
        with ExceptionWrapper():
            return BoardInformation(self._chip)

    def core_identify(self):
        with ExceptionWrapper():
            version = FirmwareVersion(self._chip.firmware_version, "core")
            return SimpleNamespace(firmware_version=version, is_release=True)

    def get_extended_device_information(self):
        with ExceptionWrapper():
            one = self._operated(51)
            return SimpleNamespace(
                neural_network_core_clock_rate=one.clock_hz,
                supported_features=SimpleNamespace(
                    ethernet=False,
                    mipi=False,
                    pcie=True,
                    current_monitoring=one.power_sensor,
                    mdio=False,
                ),
                boot_source=_pyhailort.BootSource.PCIE,
                lcs=3,
                soc_id=bytes(32),
                eth_mac_address=bytes(6),
                unit_level_tracking_id=bytes(12),
                soc_pm_values=bytes(24),
                gpio_mask=0,
            )

    def get_chip_temperature(self):
        with ExceptionWrapper():
            one = self._operated(46)
            return SimpleNamespace(
                ts0_temperature=one.temperature_c,
                ts1_temperature=one.temperature_c + 0.5,
                sample_count=1,
            )

    def set_throttling_state(self, should_activate):
        with ExceptionWrapper():
            wanted(should_activate, bool, "set_throttling_state")
            _throttling[self._operated(63).id] = should_activate

    def get_throttling_state(self):
        """Whether the chip may throttle itself, not whether it does so now."""
        with ExceptionWrapper():
            one = self._operated(64)
            return _throttling.get(one.id, one.throttling_enabled)

    def _get_health_information(self):
        with ExceptionWrapper():
            one = self._operated(62)
            return SimpleNamespace(
                temperature_throttling_active=_throttling.get(one.id, one.throttling_enabled),
                current_temperature_throttling_level=one.throttling_level,
                requested_temperature_clock_freq=one.clock_hz,
                requested_overcurrent_clock_freq=one.clock_hz,
                overcurrent_throttling_active=False,
                overcurrent_protection_active=True,
            )

    def power_measurement(self, dvm=DvmTypes.AUTO, measurement_type=PowerMeasurementTypes.AUTO):
        with ExceptionWrapper():
            self._quantities(dvm, measurement_type, "power_measurement")
            return power.single(self._chip, dvm.name, measurement_type.name)

    def start_power_measurement(
        self,
        averaging_factor=AveragingFactor.AVERAGE_256,
        sampling_period=SamplingPeriod.PERIOD_1100us,
    ):
        with ExceptionWrapper():
            wanted(averaging_factor, AveragingFactor, "start_power_measurement")
            wanted(sampling_period, SamplingPeriod, "start_power_measurement")
            factor = power.FACTORS[averaging_factor.value]
            power.start(self._chip, factor, power.PERIODS_US[sampling_period.value])

    def stop_power_measurement(self):
        with ExceptionWrapper():
            power.stop(self._chip)

    def set_power_measurement(
        self,
        buffer_index=MeasurementBufferIndex.MEASUREMENT_BUFFER_INDEX_0,
        dvm=DvmTypes.AUTO,
        measurement_type=PowerMeasurementTypes.AUTO,
    ):
        with ExceptionWrapper():
            wanted(buffer_index, MeasurementBufferIndex, "set_power_measurement")
            self._quantities(dvm, measurement_type, "set_power_measurement")
            power.choose(self._chip, buffer_index.value, dvm.name, measurement_type.name)

    def get_power_measurement(
        self,
        buffer_index=MeasurementBufferIndex.MEASUREMENT_BUFFER_INDEX_0,
        should_clear=True,
    ):
        with ExceptionWrapper():
            wanted(buffer_index, MeasurementBufferIndex, "get_power_measurement")
            wanted(should_clear, bool, "get_power_measurement")
            return power.result(self._chip, buffer_index.value, should_clear)

    def _operated(self, opcode):
        one = self._chip
        chip.operate(one, opcode)
        return one

    def _quantities(self, dvm, measurement_type, call):
        wanted(dvm, DvmTypes, call)
        wanted(measurement_type, PowerMeasurementTypes, call)
        if dvm is DvmTypes.OVERCURRENT_PROTECTION or dvm is DvmTypes.AUTO:
            log(
                "warning",
                "Using the overcurrent protection dvm for power measurement will disable the"
                " overcurrent protection.",
            )


class Device:
    """One device for control; inference is a VDevice's. It may be open beside one."""

    @classmethod
    def scan(cls):
        return [one.id for one in chip.machine().devices]

    def __init__(self, device_id=None):
        gc.collect()
        self._device = None
        if device_id is None:
            ids = Device.scan()
            if not ids:
                message = "HailoRT device not found in the system"
                raise HailoRTException(message)
            device_id = ids[0]
        self._device_id = device_id
        # no wrapper here: a refusal is the compiled part's bare status, as in the real package
        chip.opened(device_id)
        self._device = SimpleNamespace(device_id=device_id, released=False)
        self._loaded_network_groups = []
        self._control_object = Control(self._device)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.release()
        return False

    def __del__(self):
        self.release()

    def __repr__(self):
        return f"Device({self._device_id!r})"

    def release(self):
        if self._device is not None:
            self._device.released = True
            self._device = None

    @property
    def device_id(self):
        return self._device_id

    @property
    def control(self):
        return self._control_object

    @property
    def loaded_network_groups(self):
        return self._loaded_network_groups
