"""Stand-in for HailoRT's Python package 4.23: its calls and refusals, on made-up chips.

It never reaches a device. What its chips are says `state.json` in $HAILO_STANDIN_STATE.
"""

from hailo_platform.pyhailort.pyhailort import (
    HEF,
    AsyncInferJob,
    AveragingFactor,
    ConfigureParams,
    Device,
    DvmTypes,
    FormatOrder,
    FormatType,
    HailoCommunicationClosedException,
    HailoCpuId,
    HailoFormatFlags,
    HailoPowerMode,
    HailoRTException,
    HailoRTStreamAbortedByUser,
    HailoSchedulingAlgorithm,
    HailoStreamDirection,
    HailoStreamInterface,
    InferVStreams,
    InputVStreamParams,
    MeasurementBufferIndex,
    OutputVStreamParams,
    PowerMeasurementTypes,
    SamplingPeriod,
    VDevice,
)

__version__ = "4.23.0+standin"
__all__ = [
    "HEF",
    "AsyncInferJob",
    "AveragingFactor",
    "ConfigureParams",
    "Device",
    "DvmTypes",
    "FormatOrder",
    "FormatType",
    "HailoCommunicationClosedException",
    "HailoCpuId",
    "HailoFormatFlags",
    "HailoPowerMode",
    "HailoRTException",
    "HailoRTStreamAbortedByUser",
    "HailoSchedulingAlgorithm",
    "HailoStreamDirection",
    "HailoStreamInterface",
    "InferVStreams",
    "InputVStreamParams",
    "MeasurementBufferIndex",
    "OutputVStreamParams",
    "PowerMeasurementTypes",
    "SamplingPeriod",
    "VDevice",
]
