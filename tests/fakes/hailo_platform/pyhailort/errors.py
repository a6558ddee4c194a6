"""The exceptions of the package, and which of them a status becomes."""

from hailo_platform.pyhailort import _pyhailort

SEE_LOG = "See hailort.log for more information"


class HailoRTException(Exception):
    """What all others derive from."""


class HailoStatusInvalidValueException(Exception):
    """There is no such status."""


class UdpRecvError(HailoRTException):
    pass


class InvalidProtocolVersionException(HailoRTException):
    pass


class HailoRTFirmwareControlFailedException(HailoRTException):
    pass


class HailoRTInvalidFrameException(HailoRTException):
    pass


class HailoRTUnsupportedOpcodeException(HailoRTException):
    pass


class HailoRTTimeout(HailoRTException):
    pass


class HailoRTStreamAborted(HailoRTException):
    pass


class HailoRTStreamAbortedByUser(HailoRTException):
    pass


class HailoRTInvalidOperationException(HailoRTException):
    pass


class HailoRTInvalidArgumentException(HailoRTException):
    pass


class HailoRTNotFoundException(HailoRTException):
    pass


class HailoRTInvalidHEFException(HailoRTException):
    pass


class HailoRTHEFNotCompatibleWithDevice(HailoRTException):
    pass


class HailoRTEthException(HailoRTException):
    pass


class HailoRTDriverOperationFailedException(HailoRTException):
    pass


HailoRTPCIeDriverException = HailoRTDriverOperationFailedException


class HailoRTNetworkGroupNotActivatedException(HailoRTException):
    pass


class HailoCommunicationClosedException(HailoRTException):
    pass


KINDS = {
    "HAILO_ETH_RECV_FAILURE": (UdpRecvError, "Failed to receive data"),
    "HAILO_UNSUPPORTED_CONTROL_PROTOCOL_VERSION": (
        InvalidProtocolVersionException,
        "HailoRT has failed because an invalid protocol version was received from device",
    ),
    "HAILO_FW_CONTROL_FAILURE": (
        HailoRTFirmwareControlFailedException,
        "libhailort control operation failed",
    ),
    "HAILO_UNSUPPORTED_OPCODE": (
        HailoRTUnsupportedOpcodeException,
        "HailoRT has failed because an unsupported opcode was sent to device",
    ),
    "HAILO_INVALID_FRAME": (HailoRTInvalidFrameException, "An invalid frame was received"),
    "HAILO_TIMEOUT": (
        HailoRTTimeout,
        "Received a timeout - hailort has failed because a timeout had occurred",
    ),
    "HAILO_STREAM_ABORT": (HailoRTStreamAborted, "Stream was aborted"),
    "HAILO_INVALID_OPERATION": (
        HailoRTInvalidOperationException,
        f"Invalid operation. {SEE_LOG}",
    ),
    "HAILO_INVALID_ARGUMENT": (HailoRTInvalidArgumentException, f"Invalid argument. {SEE_LOG}"),
    "HAILO_NOT_FOUND": (HailoRTNotFoundException, f"Item not found. {SEE_LOG}"),
    "HAILO_INVALID_HEF": (HailoRTInvalidHEFException, f"Invalid HEF. {SEE_LOG}"),
    "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE": (
        HailoRTHEFNotCompatibleWithDevice,
        f"HEF file is not compatible with device. {SEE_LOG}",
    ),
    "HAILO_ETH_FAILURE": (HailoRTEthException, f"Ethernet failure. {SEE_LOG}"),
    "HAILO_DRIVER_OPERATION_FAILED": (
        HailoRTDriverOperationFailedException,
        "Failure in hailort driver ioctl. run 'dmesg | grep hailo' for more information",
    ),
    "HAILO_COMMUNICATION_CLOSED": (
        HailoCommunicationClosedException,
        "Communication closed failure. Check server-client connection",
    ),
    "HAILO_NETWORK_GROUP_NOT_ACTIVATED": (
        HailoRTNetworkGroupNotActivatedException,
        "Network group is not activated",
    ),
}


class ExceptionWrapper:
    """A block in which a status of the compiled part becomes the exception of its kind.

    As in the real package not every call stands in one: those raise the bare status.
    """

    def __enter__(self):
        return None

    def __exit__(self, kind, value, traceback):
        if kind is _pyhailort.HailoRTStatusException:
            raise self.create_exception_from_status(int(value.args[0])) from value

    @staticmethod
    def create_exception_from_status(error_code):
        name = get_status_message(error_code)
        if name in KINDS:
            kind, message = KINDS[name]
            return kind(message)
        return HailoRTException(f"libhailort failed with error: {error_code} ({name})")


def get_status_message(status_code):
    """The name of a status."""
    name = _pyhailort.get_status_message(status_code)
    if not name:
        message = f"Value {status_code} is not a valid status"
        raise HailoStatusInvalidValueException(message)
    return name
