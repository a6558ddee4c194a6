"""Stand-in for nvidia-ml-py: the calls profilers/instrument/nvml.py makes, on made-up boards."""

import json
import math
import os
import time
import types
from types import SimpleNamespace

__version__ = "13.615.71+standin"

NVML_SUCCESS = 0
NVML_ERROR_UNINITIALIZED = 1
NVML_ERROR_INVALID_ARGUMENT = 2
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_NO_PERMISSION = 4
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_TIMEOUT = 10
NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_GPU_IS_LOST = 15
NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18

NVML_TEMPERATURE_GPU = 0
NVML_CLOCK_SM = 1
NVML_DEVICE_MIG_DISABLE = 0
NVML_DEVICE_MIG_ENABLE = 1
NVML_FI_DEV_POWER_INSTANT = 186
NVML_POWER_SCOPE_GPU = 0

TEXTS = {
    NVML_ERROR_UNINITIALIZED: "Uninitialized",
    NVML_ERROR_INVALID_ARGUMENT: "Invalid Argument",
    NVML_ERROR_NOT_SUPPORTED: "Not Supported",
    NVML_ERROR_NO_PERMISSION: "Insufficient Permissions",
    NVML_ERROR_DRIVER_NOT_LOADED: "Driver Not Loaded",
    NVML_ERROR_TIMEOUT: "Timeout",
    NVML_ERROR_LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    NVML_ERROR_GPU_IS_LOST: "GPU is lost",
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: "RM has detected an NVML/RM version mismatch.",
}


class NVMLError(Exception):
    """As in the package: made from a code, it becomes the subclass of that code."""

    classes = {}

    def __new__(cls, value):
        error = Exception.__new__(cls.classes.get(value, cls) if cls is NVMLError else cls)
        error.value = value
        return error

    def __str__(self):
        return TEXTS[self.value]


def _subclass(code):
    name = next(n for n, v in list(globals().items()) if n.startswith("NVML_ERROR_") and v == code)
    words = name[len("NVML_ERROR_") :].lower().split("_")
    made = type(
        "NVMLError_" + "".join(word.capitalize() for word in words),
        (NVMLError,),
        {"__new__": lambda cls, *_: NVMLError.__new__(cls, code)},
    )
    NVMLError.classes[code] = made
    return made


NVMLError_Uninitialized = _subclass(NVML_ERROR_UNINITIALIZED)
NVMLError_InvalidArgument = _subclass(NVML_ERROR_INVALID_ARGUMENT)
NVMLError_NotSupported = _subclass(NVML_ERROR_NOT_SUPPORTED)
NVMLError_NoPermission = _subclass(NVML_ERROR_NO_PERMISSION)
NVMLError_DriverNotLoaded = _subclass(NVML_ERROR_DRIVER_NOT_LOADED)
NVMLError_Timeout = _subclass(NVML_ERROR_TIMEOUT)
NVMLError_LibraryNotFound = _subclass(NVML_ERROR_LIBRARY_NOT_FOUND)
NVMLError_GpuIsLost = _subclass(NVML_ERROR_GPU_IS_LOST)
NVMLError_LibRmVersionMismatch = _subclass(NVML_ERROR_LIB_RM_VERSION_MISMATCH)


class Board:
    """What a test says of a GPU, in NVML's units.

    `unsupported` names functions, or is "all"; `failing` is an error code every call gives.
    """

    name = "Stand-in GPU"
    compute_capability = (8, 0)
    energy_mj = 1_000_000
    # the counter goes up once a period, by what the power took in it; None: it stands still
    energy_period_s = 0.02
    power_mw = 61_500
    temperature_c = 41
    sm_mhz = 1410
    throttle_reasons = 0
    mig = None
    unsupported = ()
    failing = None

    def __init__(self, **said):
        self.made_s = now()
        for key, value in said.items():
            if not hasattr(Board, key):
                message = f"a board has no {key}"
                raise TypeError(message)
            setattr(self, key, value)


class Handle:
    """What the package gives for a board: opaque, and worth nothing without the library."""

    def __init__(self, board):
        self.board = board


now = time.perf_counter
boards = [Board(**said) for said in json.loads(os.environ.get("FAKE_NVML_BOARDS", "[{}]"))]
init_error = None
_users = []


def _require_init():
    if not _users:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)


def _board(handle, function):
    """The board of a handle; refused unless the library is up and the board can do `function`."""
    _require_init()
    if not isinstance(handle, Handle):
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    board = handle.board
    if board.failing is not None:
        raise NVMLError(board.failing)
    if board.unsupported == "all" or function in board.unsupported:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return board


def nvmlInit():
    if init_error is not None:
        raise NVMLError(init_error)
    _users.append(1)


def nvmlShutdown():
    _require_init()
    _users.pop()


def nvmlSystemGetDriverVersion():
    _require_init()
    return "999.0-stand-in"


def nvmlDeviceGetCount():
    _require_init()
    return len(boards)


def nvmlDeviceGetHandleByIndex(index):
    _require_init()
    if index >= len(boards):
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    return Handle(boards[index])


def nvmlDeviceGetName(handle):
    _require_init()
    return handle.board.name


def nvmlDeviceGetCudaComputeCapability(handle):
    return _board(handle, "nvmlDeviceGetCudaComputeCapability").compute_capability


def nvmlDeviceGetPciInfo(handle):
    """Of the real structure what is asked here; boards lie one behind the other."""
    place = boards.index(_board(handle, "nvmlDeviceGetPciInfo")) + 1
    return types.SimpleNamespace(busId=f"00000000:{place:02X}:00.0")


def nvmlDeviceGetMigMode(handle):
    board = _board(handle, "nvmlDeviceGetMigMode")
    if board.mig is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return [board.mig, board.mig]


def nvmlDeviceGetTotalEnergyConsumption(handle):
    board = _board(handle, "nvmlDeviceGetTotalEnergyConsumption")
    if tuple(board.compute_capability) < (7, 0):
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    if board.energy_period_s is None:
        return board.energy_mj
    # a time on the edge belongs to the step it begins
    steps = math.floor((now() - board.made_s) / board.energy_period_s + 1e-6)
    return board.energy_mj + round(steps * board.energy_period_s * board.power_mw)


def nvmlDeviceGetPowerUsage(handle):
    return _board(handle, "nvmlDeviceGetPowerUsage").power_mw


def nvmlDeviceGetFieldValues(handle, field_ids):
    """One answer a field, each with its own code: the call itself succeeds."""
    board = _board(handle, "nvmlDeviceGetFieldValues")
    answers = []
    for wanted in field_ids:
        field_id, scope_id = wanted if isinstance(wanted, tuple) else (wanted, 0)
        known = field_id == NVML_FI_DEV_POWER_INSTANT and scope_id == NVML_POWER_SCOPE_GPU
        known = known and "power_instant" not in board.unsupported
        code, value = (NVML_SUCCESS, board.power_mw) if known else (NVML_ERROR_NOT_SUPPORTED, 0)
        union = SimpleNamespace(uiVal=value)
        answers.append(SimpleNamespace(fieldId=field_id, nvmlReturn=code, value=union))
    return answers


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    return _board(handle, "nvmlDeviceGetCurrentClocksThrottleReasons").throttle_reasons


def nvmlDeviceGetTemperature(handle, sensor):
    board = _board(handle, "nvmlDeviceGetTemperature")
    if sensor != NVML_TEMPERATURE_GPU:
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    return board.temperature_c


def nvmlDeviceGetClockInfo(handle, kind):
    board = _board(handle, "nvmlDeviceGetClockInfo")
    if kind != NVML_CLOCK_SM:
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    return board.sm_mhz
