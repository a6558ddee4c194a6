"""A board's flash: only the parts that differ are written, and every part is read back by hash."""

import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgedeploy.devices.supervised import run_supervised
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.records import Record

ATTEMPTS = 3
LOG_BYTES = 1 << 20
LOG_TAIL = 4000
# A start, a connection with its own seven tries, and then the bytes, at a third of the line's rate.
START_S = 60.0
CABLE = "Use a data cable straight to the computer, or a lower flash_baud in the target."
VERDICT = re.compile(
    r"\bat\s+(0x[0-9a-f]+)\s+in\s+flash\b(?:(?!Verifying).)*?Verification\s+(successful|failed)",
    re.DOTALL | re.IGNORECASE,
)


class Part(Record):
    """One file and where in the flash it belongs."""

    name: str
    address: int
    path: str


class Flasher(Record):
    """How to reach a board's boot loader: esptool run as a program, over one port."""

    program: str
    chip: str
    port: str
    baud: int
    reset: str = "hard-reset"
    pause_s: float = 1.0


class _Symptom(NamedTuple):
    """What the program says, what it means, and whether another try may help."""

    pattern: str
    kind: type[EdgeDeployError]
    message: str
    hint: str
    again: bool = False


# The first that is found counts; {port}, {chip} and the pattern's groups are filled in.
SYMPTOMS = (
    _Symptom(
        r"This chip is (?P<found>.+?), not (?P<expected>.+?)\.",
        InputError,
        "the chip at {port} is {found}, the target's is {expected}",
        "Name that chip's target, or another --port.",
    ),
    _Symptom(
        r"(Invalid value for|argument) '?--chip",
        InputError,
        "the esptool here knows no chip {chip}",
        "Correct device_options.serial.chip of the target, or take a newer esptool.",
    ),
    _Symptom(
        r"No such command|No such option|invalid choice|unrecognized arguments|is not one of",
        MissingError,
        "the esptool here does not know what is asked of it; version 5 or later is needed",
        "pip install 'esptool>=5'",
    ),
    _Symptom(
        r"Permission denied|Errno 13",
        MissingError,
        "no permission to use {port}",
        "sudo usermod -aG dialout $USER, then log in again.",
    ),
    _Symptom(
        r"exclusively lock|Resource busy|Errno 16|Errno 11\b|temporarily unavailable",
        MissingError,
        "{port} is in use by another program",
        "Close the serial monitor that has it open.",
        True,
    ),
    _Symptom(
        r"Errno 2\b|FileNotFoundError|No such file or directory|Errno 6\b|No such device"
        r"|Errno 111\b|Connection refused",
        MissingError,
        "{port} went away",
        "Plug the board in again; " + CABLE[0].lower() + CABLE[1:],
        True,
    ),
    _Symptom(
        r"will not fit in (?P<bytes>\d+) bytes of flash",
        UnsupportedError,
        "the board at {port} has a flash of {bytes} bytes, too small for what is to be written",
        "Name the target of a board with that much flash, or take a smaller model.",
    ),
    _Symptom(
        r"Secure Download Mode|Secure Boot|flash encryption",
        UnsupportedError,
        "the board at {port} is locked by its security fuses and cannot be flashed over serial",
        "Take a board without secure boot and flash encryption.",
    ),
    _Symptom(
        r"MD5 of file does not match|written flash region is empty",
        StorageError,
        "what the flash of {port} holds after writing is not what was written",
        "Check the board's supply; a flash that keeps failing is worn out.",
        True,
    ),
    _Symptom(
        r"No serial data received|Wrong boot mode|no sync reply|(Failed to|Could not) connect",
        MissingError,
        "the {chip} at {port} does not enter its boot loader",
        "Hold BOOT, press and release RESET, let go of BOOT, and run it again.",
        True,
    ),
    _Symptom(
        r"timed out|timeout|stopped responding|data stream stopped|content transfer stopped"
        r"|Invalid head of packet|serial exception|disconnected|readiness to read|Guru Meditation"
        r"|Errno 5\b|Input/output error|Response doesn't match",
        WorkerError,
        "the connection to {port} broke down",
        CABLE,
        True,
    ),
)


def find_flasher(name: str) -> str:
    """The program's path: beside this Python, or on PATH; `MissingError` with the remedy."""
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        msg = f"{name}, which writes the board's flash, is not there"
        raise MissingError(msg, hint="pip install 'esptool>=5'")
    return found


def flash(
    flasher: Flasher, parts: list[Part], settled: Callable[[], None] = lambda: None
) -> list[str]:
    """Bring the flash to hold `parts`; the names of those that had to be written.

    What is there is never assumed: each part's hash is computed on the board before and, where
    anything was written, after. The board is reset at the end. `settled` is called after each
    reset, to wait for a USB port that goes and comes back.
    """
    differing = _differing(flasher, parts)
    settled()
    if not differing:
        return []
    _write(flasher, differing)
    settled()
    wrong = _differing(flasher, parts)
    settled()
    if wrong:
        names = ", ".join(part.name for part in wrong)
        msg = f"{flasher.port}: {names} read back otherwise than written"
        hint = "Another program may write there too; else check the board's supply."
        raise StorageError(msg, hint=hint)
    return [part.name for part in differing]


def _differing(flasher: Flasher, parts: list[Part]) -> list[Part]:
    """The parts whose bytes are not what the flash holds."""
    output = _run(flasher, "verify-flash", parts, after=flasher.reset)
    found = {int(address, 16): word.lower() for address, word in VERDICT.findall(output)}
    silent = [part.name for part in parts if part.address not in found]
    if silent:
        msg = f"{flasher.program} verified the flash and said nothing of {', '.join(silent)}"
        raise WorkerError(msg, hint="Its output is in the log.", log=output[-LOG_TAIL:])
    return [part for part in parts if found[part.address] == "failed"]


def _write(flasher: Flasher, parts: list[Part]) -> None:
    _run(flasher, "write-flash", parts, after="no-reset", more=["--no-progress"])


def _run(
    flasher: Flasher, command: str, parts: list[Part], *, after: str, more: list[str] | None = None
) -> str:
    """One call of the program; again, a bounded number of times, where that may help."""
    words = [
        flasher.program,
        *("--chip", flasher.chip),
        *("--port", flasher.port),
        *("--baud", str(flasher.baud)),
        *("--before", "default-reset"),
        *("--after", after),
        *(command, *(more or [])),
    ]
    for part in parts:
        words += [f"{part.address:#x}", part.path]
    size = sum(Path(part.path).stat().st_size for part in parts)
    timeout_s = START_S + size * 30 / flasher.baud
    for attempt in range(1, ATTEMPTS + 1):
        try:
            code, output, _ = run_supervised(words, timeout_s, LOG_BYTES)
        except TimeoutError as err:
            output, code = f"{err.args[1]}\nerror: timed out: {err.args[0]}", None
        if code == 0 or (command == "verify-flash" and code == 2 and _only_differs(output)):
            return output
        error, again = _meaning(flasher, command, code, output)
        if not again or attempt == ATTEMPTS:
            if again:
                error.message += f" ({ATTEMPTS} tries)"
            raise error
        time.sleep(flasher.pause_s)
    raise AssertionError(words)  # the loop returns or raises


def _only_differs(output: str) -> bool:
    """Whether a failed verification failed for the bytes in the flash and for nothing else."""
    last = [line for line in output.splitlines() if "fatal error" in line.lower()]
    return bool(last) and "Verification failed" in last[-1]


def _meaning(
    flasher: Flasher, command: str, code: int | None, output: str
) -> tuple[EdgeDeployError, bool]:
    log = output[-LOG_TAIL:]
    start = re.search(r"fatal error|serial exception|\berror\b", output, re.IGNORECASE)
    said = output[start.start() :] if start else output
    for symptom in SYMPTOMS:
        found = re.search(symptom.pattern, said, re.IGNORECASE)
        if found:
            words = {"port": flasher.port, "chip": flasher.chip, **found.groupdict()}
            message = symptom.message.format(**words)
            return symptom.kind(message, hint=symptom.hint, log=log), symptom.again
    name = Path(flasher.program).name
    msg = f"{name} {command} at {flasher.port} ended with exit code {code}"
    return EdgeDeployError(msg, hint="Its last output is in the log.", log=log), False
