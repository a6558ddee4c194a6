"""The compiled part of the package: enumerations, plain records, and the status exception."""

import enum
from types import SimpleNamespace

from hailo_platform.standin import chip, status
from hailo_platform.standin.hef import BYTES
from hailo_platform.standin.status import HailoRTStatusException, wanted, whole

__all__ = ["HailoRTStatusException"]
__version__ = chip.VERSION
_library = chip.machine().library_version
if _library != __version__:
    _message = f"libhailort version ({_library}) does not match pyhailort version ({__version__})"
    raise ImportError(_message)

MOST_32 = 2**32 - 1
AUTO = 2**31 - 1


class _Enumeration(enum.Enum):
    """As pybind11 makes them: no numbers, but convertible to one."""

    def __int__(self):
        return self.value

    def __index__(self):
        return self.value


def _enumeration(name, names, first=0, **others):
    members = [(member, first + place) for place, member in enumerate(names.split())]
    return _Enumeration(name, members + list(others.items()))


DeviceArchitecture = _enumeration(
    "DeviceArchitecture", "HAILO8_A0 HAILO8 HAILO8L HAILO15H HAILO15L HAILO15M HAILO10H"
)
DvmTypes = _enumeration(
    "DvmTypes",
    "VDD_CORE VDD_IO MIPI_AVDD MIPI_AVDD_H USB_AVDD_IO VDD_TOP USB_AVDD_IO_HV AVDD_H SDIO_VDD_IO"
    " OVERCURRENT_PROTECTION",
    AUTO=AUTO,
)
PowerMeasurementTypes = _enumeration(
    "PowerMeasurementTypes", "SHUNT_VOLTAGE BUS_VOLTAGE POWER CURRENT", AUTO=AUTO
)
SamplingPeriod = _enumeration(
    "SamplingPeriod",
    "PERIOD_140us PERIOD_204us PERIOD_332us PERIOD_588us PERIOD_1100us PERIOD_2116us"
    " PERIOD_4156us PERIOD_8244us",
)
AveragingFactor = _enumeration(
    "AveragingFactor",
    "AVERAGE_1 AVERAGE_4 AVERAGE_16 AVERAGE_64 AVERAGE_128 AVERAGE_256 AVERAGE_512 AVERAGE_1024",
)
MeasurementBufferIndex = _enumeration(
    "MeasurementBufferIndex",
    " ".join(f"MEASUREMENT_BUFFER_INDEX_{place}" for place in range(4)),
)
FormatType = _enumeration("FormatType", "AUTO UINT8 UINT16 FLOAT32")
FormatOrder = _enumeration(
    "FormatOrder",
    "AUTO NHWC NHCW FCR F8CR NHW NC BAYER_RGB 12_BIT_BAYER_RGB HAILO_NMS RGB888 NCHW YUY2 NV12"
    " NV21 YYUV YYVU RGB4 I420 YYYYUV HAILO_NMS_WITH_BYTE_MASK HAILO_NMS_ON_CHIP"
    " HAILO_NMS_BY_CLASS HAILO_NMS_BY_SCORE",
)
FormatFlags = _enumeration("FormatFlags", "NONE QUANTIZED TRANSPOSED")
StreamInterface = _enumeration("StreamInterface", "PCIe ETH MIPI INTEGRATED")
StreamDirection = _enumeration("StreamDirection", "H2D D2H")
PowerMode = _enumeration("PowerMode", "PERFORMANCE ULTRA_PERFORMANCE")
SchedulingAlgorithm = _enumeration("SchedulingAlgorithm", "NONE ROUND_ROBIN")
BootSource = _enumeration("BootSource", "INVALID PCIE FLASH")
CpuId = _enumeration("CpuId", "CPU0 CPU1")


def get_status_message(code):
    """The name of a status, empty where there is none of that code."""
    return status.NAMES[code] if 0 <= code < len(status.NAMES) else ""


def get_format_data_bytes(form):
    """Bytes of one value in this format."""
    return BYTES[get_dtype(form.type)]


def get_dtype(kind):
    """The numpy name of a format type."""
    if kind is FormatType.AUTO:
        message = "Invalid format type."
        raise HailoRTStatusException(message)
    return kind.name.lower()


class HailoFormat:
    """Type, order and flags of a stream's values."""

    def __init__(self, kind, order):
        self.type = kind
        self.order = order
        self.flags = FormatFlags.NONE

    def equals(self, other):
        return (self.type, self.order, self.flags) == (other.type, other.order, other.flags)


class VStreamInfo:
    """What a HEF says of one of its streams."""

    def __init__(self, one, network, direction):
        shape = one.shape[2:] if one.order == "NC" else one.shape
        self.name = one.name
        self.network_name = network
        self.direction = direction
        self.shape = tuple(shape)
        self.format = HailoFormat(FormatType[one.dtype.upper()], FormatOrder[one.order])
        self.quant_info = quant_info(one)

    def __repr__(self):
        return f'VStreamInfo("{self.name}")'

    @property
    def nms_shape(self):
        message = "nms_shape is availale only on nms order vstreams"
        raise HailoRTStatusException(message)


def quant_info(one):
    """Scale and zero point; 1 and 0 where the HEF says nothing."""
    scale = 1.0 if one.scale is None else one.scale
    low = -one.zero_point * scale
    return SimpleNamespace(
        qp_zp=one.zero_point, qp_scale=scale, limvals_min=low, limvals_max=low + 255 * scale
    )


class Params:
    """A record of settings: names outside `kinds`, and values of another kind, are refused.

    Like the compiled part's records it takes attributes one by one; a kind is a class or the
    greatest number allowed.
    """

    kinds = {}

    def __init__(self, **values):
        self.__dict__.update(values)

    def __setattr__(self, name, value):
        if name not in self.kinds:
            message = f"'{type(self).__name__}' object has no attribute '{name}'"
            raise AttributeError(message)
        kind = self.kinds[name]
        call = f"{type(self).__name__}.{name}"
        if isinstance(kind, int):
            whole(value, kind, call)
        else:
            wanted(value, kind, call)
        super().__setattr__(name, value)


class VDeviceParams(Params):
    """Of a virtual device; its scheduling algorithm reads back as a number, as the real one's."""

    kinds = {
        "device_ids": list,
        "device_count": MOST_32,
        "scheduling_algorithm": SchedulingAlgorithm,
        "group_id": str,
        "multi_process_service": bool,
    }

    @staticmethod
    def default():
        return VDeviceParams(
            device_ids=[],
            device_count=1,
            scheduling_algorithm=int(SchedulingAlgorithm.NONE),
            group_id="UNIQUE",
            multi_process_service=False,
        )

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "scheduling_algorithm":
            self.__dict__[name] = int(value)


class ConfigureNetworkParams(Params):
    """Of a network group: `batch_size` (0: the library's choice) and `power_mode`."""

    kinds = {
        "batch_size": 65535,
        "power_mode": PowerMode,
        "stream_params_by_name": dict,
        "network_params_by_name": dict,
    }


class NetworkParams(Params):
    """Of one network in a group."""

    kinds = {"batch_size": 65535}


class VStreamParams(Params):
    """Of one stream: `user_buffer_format`, `timeout_ms`, `queue_size`."""

    kinds = {"user_buffer_format": HailoFormat, "timeout_ms": MOST_32, "queue_size": MOST_32}


class ActivateNetworkGroupParams:
    """There is nothing to set."""

    @staticmethod
    def default():
        return ActivateNetworkGroupParams()
