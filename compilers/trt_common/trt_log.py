"""The builder's log: one logger a process, as the library wants it, led into a file a build."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from trt_layers import MARKS as MARKS_OF_LAYERS
from trt_layers import layers_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    Table = dict[str, Any]
    Thing = Any  # of the library, which is an argument: its classes cannot be named

MARKS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}
# what is logged without a driver, of a query whose result is not needed
HARMLESS = re.compile(
    r"catchCudaError|Empty initializer|Thread context has not been set"
    r"|Error reading CUDA GPU properties"
)
BYTES = {
    "weight_bytes": re.compile(r"Total Weights Memory: (\d+) bytes"),
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+) bytes"),
    "scratch_bytes": re.compile(r"Max Scratch Memory: (\d+) bytes"),
}
_logs: dict[str, Log] = {}


class Log:
    """What one library has logged: `lines` as (severity, text) since the last `into`."""

    def __init__(self, trt: ModuleType) -> None:
        self.lines: list[tuple[str, str]] = []
        log = self

        class Logger(trt.ILogger):  # type of the library, which is an argument here
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Thing, msg: str) -> None:
                log.add(str(severity).rpartition(".")[2], str(msg))

        self.logger = Logger()

    def add(self, severity: str, text: str) -> None:
        """Take a line; of thousands of verbose ones only the engine's layers."""
        if severity != "VERBOSE" or text.startswith(MARKS_OF_LAYERS):
            self.lines.append((severity, text))

    @contextlib.contextmanager
    def into(self, path: Path) -> Iterator[Log]:
        """Within it lines are collected anew; at its end, or a failure, they are in the file."""
        self.lines = []
        try:
            yield self
        finally:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"[{MARKS.get(mark, mark)}] {line}\n" for mark, line in self.lines)
            path.write_text(text, encoding="utf-8")
            for mark, line in self.lines:
                if mark not in ("INFO", "VERBOSE"):
                    print(f"[{MARKS.get(mark, mark)}] {line}")

    def errors(self) -> list[str]:
        """The errors since `into`, without those that say nothing about the build."""
        kinds = ("ERROR", "INTERNAL_ERROR")
        return [line for mark, line in self.lines if mark in kinds and not HARMLESS.search(line)]

    def warnings(self) -> list[str]:
        """The warnings since `into`, once each."""
        found = (line for mark, line in self.lines if mark == "WARNING")
        return list(dict.fromkeys(line for line in found if not HARMLESS.search(line)))

    def figures(self) -> Table:
        """What a build told of its engine: bytes by kind, `layers` as `layers_in` gives them."""
        found: Table = {}
        for _, line in self.lines:
            for name, pattern in BYTES.items():
                match = pattern.search(line)
                if match:
                    found[name] = int(match.group(1))
            if line.startswith(MARKS_OF_LAYERS):
                found["layers"] = layers_in(line)
        return found


def log_of(trt: ModuleType) -> Log:
    """The log of a library: it keeps the first logger it is given for the life of the process."""
    if trt.__name__ not in _logs:
        _logs[trt.__name__] = Log(trt)
    return _logs[trt.__name__]
