"""Loggers: what the library says goes through them, as `[TRT] [E] text`."""

from __future__ import annotations

import sys
import time
from typing import Any

from tensorrt.enums import made

Severity = made("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
LETTERS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}


class Called(type):
    """Refuses a subclass whose constructor leaves out the one of its base, as pybind11 does."""

    def __call__(cls, *args: Any, **named: Any) -> Any:
        made_one = super().__call__(*args, **named)
        if not getattr(made_one, "_constructed", False):
            msg = "tensorrt.tensorrt.ILogger.__init__() must be called when overriding __init__"
            raise TypeError(msg)
        return made_one


class ILogger(metaclass=Called):
    """The base of loggers of one's own: override `log`."""

    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING
    INFO, VERBOSE = Severity.INFO, Severity.VERBOSE

    def __init__(self) -> None:
        self._constructed = True

    def log(self, severity: Any, msg: str) -> None:
        text = 'Tried to call pure virtual function "ILogger::log"'
        raise RuntimeError(text)


class Logger(ILogger):
    """Prints what is at least as severe as it was made for."""

    def __init__(self, min_severity: Any = Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) > int(self.min_severity):
            return
        stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
        where = sys.stderr if int(severity) <= int(Severity.ERROR) else sys.stdout
        print(f"[{stamp}] [TRT] [{LETTERS[severity.name]}] {msg}", file=where)


def emit(logger: Any, severity: str, text: str) -> None:
    """Tell a logger; `severity` by its name."""
    logger.log(Severity[severity], text)
