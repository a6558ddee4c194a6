"""The enumerations that users of the package see."""

from enum import Enum


class States(Enum):
    """How far a model has come; each call names the states it is allowed in."""

    UNINITIALIZED = "uninitialized"
    HAILO_MODEL = "hailo_model"
    QUANTIZED_MODEL = "quantized_model"
    COMPILED_MODEL = "compiled_model"


class InferenceContext(Enum):
    """What computes: an emulator, or the device."""

    SDK_NATIVE = "sdk_native"
    SDK_FP_OPTIMIZED = "sdk_fp_optimized"
    SDK_QUANTIZED = "sdk_quantized"
    SDK_BIT_EXACT = "sdk_bit_exact"
    SDK_HAILO_HW = "sdk_hailo_hw"


class CalibrationDataType(Enum):
    """How calibration data is given; `auto` looks at it."""

    auto = "auto"
    np_array = "np_array"
    npy_file = "npy_file"


class InferenceDataType(Enum):
    """How data for an emulator is given; `auto` looks at it."""

    auto = "auto"
    np_array = "np_array"
    npy_file = "npy_file"
