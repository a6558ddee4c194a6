"""The library's status codes, its log lines, and the error a status becomes."""

import sys

# in the order of their codes, without their prefix
NAMES = [
    "HAILO_" + name
    for name in (
        "SUCCESS",
        "UNINITIALIZED",
        "INVALID_ARGUMENT",
        "OUT_OF_HOST_MEMORY",
        "TIMEOUT",
        "INSUFFICIENT_BUFFER",
        "INVALID_OPERATION",
        "NOT_IMPLEMENTED",
        "INTERNAL_FAILURE",
        "DATA_ALIGNMENT_FAILURE",
        "CHUNK_TOO_LARGE",
        "INVALID_LOGGER_LEVEL",
        "CLOSE_FAILURE",
        "OPEN_FILE_FAILURE",
        "FILE_OPERATION_FAILURE",
        "UNSUPPORTED_CONTROL_PROTOCOL_VERSION",
        "UNSUPPORTED_FW_VERSION",
        "INVALID_CONTROL_RESPONSE",
        "FW_CONTROL_FAILURE",
        "ETH_FAILURE",
        "ETH_INTERFACE_NOT_FOUND",
        "ETH_RECV_FAILURE",
        "ETH_SEND_FAILURE",
        "INVALID_FIRMWARE",
        "INVALID_CONTEXT_COUNT",
        "INVALID_FRAME",
        "INVALID_HEF",
        "PCIE_NOT_SUPPORTED_ON_PLATFORM",
        "INTERRUPTED_BY_SIGNAL",
        "START_VDMA_CHANNEL_FAIL",
        "SYNC_VDMA_BUFFER_FAIL",
        "STOP_VDMA_CHANNEL_FAIL",
        "CLOSE_VDMA_CHANNEL_FAIL",
        "ATR_TABLES_CONF_VALIDATION_FAIL",
        "EVENT_CREATE_FAIL",
        "READ_EVENT_FAIL",
        "DRIVER_OPERATION_FAILED",
        "INVALID_FIRMWARE_MAGIC",
        "INVALID_FIRMWARE_CODE_SIZE",
        "INVALID_KEY_CERTIFICATE_SIZE",
        "INVALID_CONTENT_CERTIFICATE_SIZE",
        "MISMATCHING_FIRMWARE_BUFFER_SIZES",
        "INVALID_FIRMWARE_CPU_ID",
        "CONTROL_RESPONSE_MD5_MISMATCH",
        "GET_CONTROL_RESPONSE_FAIL",
        "GET_D2H_EVENT_MESSAGE_FAIL",
        "MUTEX_INIT_FAIL",
        "OUT_OF_DESCRIPTORS",
        "UNSUPPORTED_OPCODE",
        "USER_MODE_RATE_LIMITER_NOT_SUPPORTED",
        "RATE_LIMIT_MAXIMUM_BANDWIDTH_EXCEEDED",
        "ANSI_TO_UTF16_CONVERSION_FAILED",
        "UTF16_TO_ANSI_CONVERSION_FAILED",
        "UNEXPECTED_INTERFACE_INFO_FAILURE",
        "UNEXPECTED_ARP_TABLE_FAILURE",
        "MAC_ADDRESS_NOT_FOUND",
        "NO_IPV4_INTERFACES_FOUND",
        "SHUTDOWN_EVENT_SIGNALED",
        "THREAD_ALREADY_ACTIVATED",
        "THREAD_NOT_ACTIVATED",
        "THREAD_NOT_JOINABLE",
        "NOT_FOUND",
        "COMMUNICATION_CLOSED",
        "STREAM_ABORT",
        "DRIVER_NOT_INSTALLED",
        "NOT_AVAILABLE",
        "TRAFFIC_CONTROL_FAILURE",
        "INVALID_SECOND_STAGE",
        "INVALID_PIPELINE",
        "NETWORK_GROUP_NOT_ACTIVATED",
        "VSTREAM_PIPELINE_NOT_ACTIVATED",
        "OUT_OF_FW_MEMORY",
        "STREAM_NOT_ACTIVATED",
        "DEVICE_IN_USE",
        "OUT_OF_PHYSICAL_DEVICES",
        "INVALID_DEVICE_ARCHITECTURE",
        "INVALID_DRIVER_VERSION",
        "RPC_FAILED",
        "INVALID_SERVICE_VERSION",
        "NOT_SUPPORTED",
        "NMS_BURST_INVALID_DATA",
        "OUT_OF_HOST_CMA_MEMORY",
        "QUEUE_IS_FULL",
        "DMA_MAPPING_ALREADY_EXISTS",
        "CANT_MEET_BUFFER_REQUIREMENTS",
        "DRIVER_INVALID_RESPONSE",
        "DRIVER_INVALID_IOCTL",
        "DRIVER_TIMEOUT",
        "DRIVER_INTERRUPTED",
        "CONNECTION_REFUSED",
        "DRIVER_WAIT_CANCELED",
        "HEF_FILE_CORRUPTED",
        "HEF_NOT_SUPPORTED",
        "HEF_NOT_COMPATIBLE_WITH_DEVICE",
    )
]
CODES = {name: code for code, name in enumerate(NAMES)}


class HailoRTStatusException(Exception):
    """What the compiled part of the package raises: its message is the code and nothing else."""


def log(level, message, logger="HailoRT"):
    """One line on stderr, as the library's logger writes it to a console."""
    sys.stderr.write(f"[{logger}] [{level}] {message}\n")
    sys.stderr.flush()


def fail(name, message, logger="HailoRT"):
    """Log as the library's checks do, and raise the status of that name."""
    log("error", message, logger)
    raise HailoRTStatusException(str(CODES[name]))


def check(condition, name, message):
    """Raise the status of that name unless the condition holds."""
    if not condition:
        fail(name, f"CHECK failed - {message}")


def standin(message):
    """Refuse what the real library would take silently; the message says who refuses."""
    fail("HAILO_INVALID_ARGUMENT", f"stand-in: {message}")


def wanted(value, kind, call):
    """Refuse an argument of another type, as the compiled part does."""
    if not isinstance(value, kind):
        message = f"{call}(): incompatible function arguments: {value!r}, not {kind.__name__}"
        raise TypeError(message)


def whole(value, most, call):
    """Refuse what is no whole number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        message = f"{call}(): incompatible function arguments: {value!r}"
        raise TypeError(message)
