"""Where the real package has all its classes."""

from hailo_platform.pyhailort import _pyhailort
from hailo_platform.pyhailort._pyhailort import (
    AveragingFactor,
    DvmTypes,
    FormatOrder,
    FormatType,
    MeasurementBufferIndex,
    PowerMeasurementTypes,
    SamplingPeriod,
)
from hailo_platform.pyhailort.control import BoardInformation, Control, Device
from hailo_platform.pyhailort.errors import (
    ExceptionWrapper,
    HailoCommunicationClosedException,
    HailoRTDriverOperationFailedException,
    HailoRTException,
    HailoRTFirmwareControlFailedException,
    HailoRTHEFNotCompatibleWithDevice,
    HailoRTInvalidArgumentException,
    HailoRTInvalidFrameException,
    HailoRTInvalidHEFException,
    HailoRTInvalidOperationException,
    HailoRTNetworkGroupNotActivatedException,
    HailoRTNotFoundException,
    HailoRTPCIeDriverException,
    HailoRTStreamAborted,
    HailoRTStreamAbortedByUser,
    HailoRTTimeout,
    HailoRTUnsupportedOpcodeException,
    get_status_message,
)
from hailo_platform.pyhailort.infer_model import (
    AsyncInferCompletionInfo,
    AsyncInferJob,
    ConfiguredInferModel,
    InferModel,
)
from hailo_platform.pyhailort.models import HEF, ConfigureParams
from hailo_platform.pyhailort.network import (
    ConfiguredNetwork,
    InferVStreams,
    InputVStreamParams,
    OutputVStreamParams,
)
from hailo_platform.pyhailort.vdevice import VDevice

HailoSchedulingAlgorithm = _pyhailort.SchedulingAlgorithm
HailoPowerMode = _pyhailort.PowerMode
HailoStreamInterface = _pyhailort.StreamInterface
HailoStreamDirection = _pyhailort.StreamDirection
HailoFormatFlags = _pyhailort.FormatFlags
HailoCpuId = _pyhailort.CpuId
DeviceArchitectureTypes = _pyhailort.DeviceArchitecture

__all__ = [
    "HEF",
    "AsyncInferCompletionInfo",
    "AsyncInferJob",
    "AveragingFactor",
    "BoardInformation",
    "ConfigureParams",
    "ConfiguredInferModel",
    "ConfiguredNetwork",
    "Control",
    "Device",
    "DeviceArchitectureTypes",
    "DvmTypes",
    "ExceptionWrapper",
    "FormatOrder",
    "FormatType",
    "HailoCommunicationClosedException",
    "HailoCpuId",
    "HailoFormatFlags",
    "HailoPowerMode",
    "HailoRTDriverOperationFailedException",
    "HailoRTException",
    "HailoRTFirmwareControlFailedException",
    "HailoRTHEFNotCompatibleWithDevice",
    "HailoRTInvalidArgumentException",
    "HailoRTInvalidFrameException",
    "HailoRTInvalidHEFException",
    "HailoRTInvalidOperationException",
    "HailoRTNetworkGroupNotActivatedException",
    "HailoRTNotFoundException",
    "HailoRTPCIeDriverException",
    "HailoRTStreamAborted",
    "HailoRTStreamAbortedByUser",
    "HailoRTTimeout",
    "HailoRTUnsupportedOpcodeException",
    "HailoSchedulingAlgorithm",
    "HailoStreamDirection",
    "HailoStreamInterface",
    "InferModel",
    "InferVStreams",
    "InputVStreamParams",
    "MeasurementBufferIndex",
    "OutputVStreamParams",
    "PowerMeasurementTypes",
    "SamplingPeriod",
    "VDevice",
    "get_status_message",
]
