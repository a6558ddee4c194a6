"""What HailoRT's statuses and exceptions mean here: whose fault it is, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# the names of hailort.h's statuses that a load or a run can end in
STATUSES = {
    2: "HAILO_INVALID_ARGUMENT",
    3: "HAILO_OUT_OF_HOST_MEMORY",
    4: "HAILO_TIMEOUT",
    6: "HAILO_INVALID_OPERATION",
    8: "HAILO_INTERNAL_FAILURE",
    13: "HAILO_OPEN_FILE_FAILURE",
    15: "HAILO_UNSUPPORTED_CONTROL_PROTOCOL_VERSION",
    16: "HAILO_UNSUPPORTED_FW_VERSION",
    18: "HAILO_FW_CONTROL_FAILURE",
    26: "HAILO_INVALID_HEF",
    36: "HAILO_DRIVER_OPERATION_FAILED",
    48: "HAILO_UNSUPPORTED_OPCODE",
    61: "HAILO_NOT_FOUND",
    62: "HAILO_COMMUNICATION_CLOSED",
    63: "HAILO_STREAM_ABORT",
    64: "HAILO_DRIVER_NOT_INSTALLED",
    69: "HAILO_NETWORK_GROUP_NOT_ACTIVATED",
    71: "HAILO_OUT_OF_FW_MEMORY",
    73: "HAILO_DEVICE_IN_USE",
    74: "HAILO_OUT_OF_PHYSICAL_DEVICES",
    75: "HAILO_INVALID_DEVICE_ARCHITECTURE",
    76: "HAILO_INVALID_DRIVER_VERSION",
    81: "HAILO_OUT_OF_HOST_CMA_MEMORY",
    82: "HAILO_QUEUE_IS_FULL",
    85: "HAILO_DRIVER_INVALID_RESPONSE",
    86: "HAILO_DRIVER_INVALID_IOCTL",
    87: "HAILO_DRIVER_TIMEOUT",
    91: "HAILO_HEF_FILE_CORRUPTED",
    92: "HAILO_HEF_NOT_SUPPORTED",
    93: "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
}
CODES = {name: code for code, name in STATUSES.items()}
# hailo_platform gives these their own class, whose text has no status in it
CLASSES = {
    "InvalidProtocolVersionException": "HAILO_UNSUPPORTED_CONTROL_PROTOCOL_VERSION",
    "HailoRTFirmwareControlFailedException": "HAILO_FW_CONTROL_FAILURE",
    "HailoRTUnsupportedOpcodeException": "HAILO_UNSUPPORTED_OPCODE",
    "HailoRTTimeout": "HAILO_TIMEOUT",
    "HailoRTStreamAborted": "HAILO_STREAM_ABORT",
    "HailoRTInvalidOperationException": "HAILO_INVALID_OPERATION",
    "HailoRTInvalidArgumentException": "HAILO_INVALID_ARGUMENT",
    "HailoRTNotFoundException": "HAILO_NOT_FOUND",
    "HailoRTInvalidHEFException": "HAILO_INVALID_HEF",
    "HailoRTHEFNotCompatibleWithDevice": "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
    "HailoRTDriverOperationFailedException": "HAILO_DRIVER_OPERATION_FAILED",
    "HailoCommunicationClosedException": "HAILO_COMMUNICATION_CLOSED",
    "HailoRTNetworkGroupNotActivatedException": "HAILO_NETWORK_GROUP_NOT_ACTIVATED",
}
IN_TEXT = re.compile(r"error: (\d+)\b|\b(HAILO_[A-Z0-9_]+)\b")
# a mismatch that the library found although the versions that could be read agree
VERSIONS = (
    "driver, library and firmware are not of one version (found: {versions})",
    "Install the driver, library, firmware and hailo_platform of one HailoRT release here, restart"
    " the machine so that the driver and firmware are loaded anew.",
)
HEF = (
    "the HEF is damaged: it was cut or changed on its way",
    "Compile or copy it again; `hailortcli parse-hef` then reads it.",
)
BUSY = (
    "the chip is in use by another process",
    "`fuser -v /dev/hailo*` names that process: end it or wait for it, or name another chip with"
    " run option device_id.",
)
GONE = (
    "the chip went away while it ran",
    "Look into `dmesg | grep hailo` for a reset or a loose board, restart the machine.",
)
MEMORY = (
    "this machine has no memory left that the chip can reach",
    "Stop what else runs here, or lower run option batch_size.",
)


class Told(Exception):
    """What ends a call; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Missing(Told):
    """The runtime, its driver or a chip is not there, or not to be had."""


class Unsupported(Told):
    """This runtime has no such thing, and nothing is broken."""


class BadInput(Told):
    """An option, artifact, input or version that is wrong."""


class TimedOut(Told):
    """The chip did not answer within `timeout_ms`."""


class Failed(Told):
    """HailoRT reported a fault that is none of the above."""


MEANINGS: dict[str, tuple[type[Told], str, str]] = {
    "HAILO_OUT_OF_PHYSICAL_DEVICES": (Missing, *BUSY),
    "HAILO_DEVICE_IN_USE": (Missing, *BUSY),
    "HAILO_DRIVER_NOT_INSTALLED": (
        Missing,
        "the PCIe driver is not loaded",
        "Install the driver of the same HailoRT release, then `modprobe hailo_pci`.",
    ),
    "HAILO_INVALID_DRIVER_VERSION": (Missing, *VERSIONS),
    "HAILO_DRIVER_INVALID_RESPONSE": (Missing, *VERSIONS),
    "HAILO_DRIVER_INVALID_IOCTL": (Missing, *VERSIONS),
    "HAILO_UNSUPPORTED_FW_VERSION": (Missing, *VERSIONS),
    "HAILO_UNSUPPORTED_CONTROL_PROTOCOL_VERSION": (Missing, *VERSIONS),
    "HAILO_INVALID_HEF": (BadInput, *HEF),
    "HAILO_HEF_FILE_CORRUPTED": (BadInput, *HEF),
    "HAILO_HEF_NOT_SUPPORTED": (
        BadInput,
        "the HEF is not one that this HailoRT reads: it is too new or damaged (found: {versions})",
        "Install HailoRT {runtime} here, or compile with the Dataflow Compiler that belongs to the"
        " HailoRT here; if they are the same, compile or copy the HEF again.",
    ),
    "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE": (
        BadInput,
        "the HEF is for another chip than this {chip} (its model.json says {hw_arch})",
        "Compile for the target with this chip.",
    ),
    "HAILO_INVALID_DEVICE_ARCHITECTURE": (
        BadInput,
        "HailoRT does not drive this chip: it is a {chip}",
        "HailoRT 4.x is for Hailo-8 and Hailo-8L.",
    ),
    "HAILO_TIMEOUT": (
        TimedOut,
        "the chip did not answer in time",
        "Raise run option timeout_ms if the model is that slow; else look into"
        " `dmesg | grep hailo`, and restart the machine if the chip hangs.",
    ),
    "HAILO_DRIVER_TIMEOUT": (TimedOut, *GONE),
    "HAILO_COMMUNICATION_CLOSED": (Failed, *GONE),
    "HAILO_STREAM_ABORT": (Failed, *GONE),
    "HAILO_DRIVER_OPERATION_FAILED": (
        Failed,
        "the driver refused",
        "`dmesg | grep hailo` says why.",
    ),
    "HAILO_INVALID_OPERATION": (
        Failed,
        "HailoRT refused it",
        "Its reason is in the log; a batch_size above its queue's size is one.",
    ),
    "HAILO_OUT_OF_HOST_MEMORY": (Failed, *MEMORY),
    "HAILO_OUT_OF_HOST_CMA_MEMORY": (Failed, *MEMORY),
    "HAILO_OUT_OF_FW_MEMORY": (
        Failed,
        "the chip has no memory left for this model beside those on it",
        "Load fewer models at once.",
    ),
}
OTHER = (Failed, "HailoRT failed", "What it printed is in the log; `dmesg | grep hailo` has more.")


def status_of(error: BaseException) -> str:
    """The status that an exception of hailo_platform stands for; "" where it is not one of its."""
    names = [each.__name__ for each in type(error).__mro__]
    found = next((CLASSES[name] for name in names if name in CLASSES), "")
    if found:
        return found
    if not any(name.startswith(("HailoRT", "HailoStatus")) for name in names):
        return ""
    text = str(error)
    if text.strip().isdigit():  # HailoRTStatusException, where the binding does not wrap it
        return STATUSES.get(int(text), f"HAILO_STATUS_{text.strip()}")
    match = IN_TEXT.search(text)
    if match is None:
        return "HAILO_INTERNAL_FAILURE"
    named = re.search(r"\b(HAILO_[A-Z0-9_]+)\b", text)
    return named[1] if named else STATUSES.get(int(match[1]), f"HAILO_STATUS_{match[1]}")


def meaning(status: str, doing: str, found: dict[str, str], detail: str = "") -> Told:
    """The exception for a status; `found` fills the texts in: versions, runtime, hw_arch, chip."""
    kind, text, hint = MEANINGS.get(status, OTHER)
    known = {"versions": "none", "runtime": "?", "hw_arch": "?", "chip": "?", **found}
    code = f"status {CODES[status]}, " if status in CODES else ""
    more = f" {detail.strip()}" if detail.strip() and status not in MEANINGS else ""
    return kind(f"{doing}: {text.format(**known)} ({code}{status}){more}", hint.format(**known))


def no_access(node: str) -> Missing:
    """Nobody may use a device file but others than this user."""
    msg = f"{node} cannot be opened by this user (uid {os.getuid()}): permission denied"
    hint = (
        "`ls -l` shows whose it is: add the user to that group, or install the driver's udev rule."
    )
    return Missing(msg, hint)


@contextlib.contextmanager
def explained(doing: str, found: dict[str, str]) -> Iterator[None]:
    """Whatever hailo_platform raises in the block leaves it as what it means here."""
    try:
        yield
    except PermissionError as error:
        raise no_access(error.filename or "/dev/hailo*") from error
    except Exception as error:
        status = status_of(error)
        if not status:
            raise
        raise meaning(status, doing, found, str(error)) from error
