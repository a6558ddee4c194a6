"""Every failure a user can see: what was found, what to do, and the exit code.

Exit codes of the command line (`EXIT_CODES` documents them for `--help` and the README):
0 success; 1 failed; 2 bad input; 3 missing tool or device; 4 unsupported by the target;
5 a gate said no; 130 interrupted.
"""

from typing import ClassVar, Literal

FailureKind = Literal["failed", "input", "missing", "unsupported"]

EXIT_CODES: dict[int, str] = {
    0: "success",
    1: "failed: a stage broke (the report's row says which, and the log where)",
    2: "bad input: a workload, target, model, data set or option is wrong",
    3: "missing: a toolchain, device or instrument is not there (the row says the remedy)",
    4: "unsupported: the target cannot run this model (the row says why)",
    5: "gate: `compare --fail-if` or `verify --strict` found a difference beyond the limit",
    130: "interrupted: finished rows are kept, `edgedeploy deploy --resume last` goes on",
}

# The worst first: over several targets the exit code is the first of these that occurred.
SEVERITY: tuple[FailureKind, ...] = ("failed", "input", "missing", "unsupported")


class EdgeDeployError(Exception):
    """Base of all errors shown to users; `hint` is the remedy, `log` a tool's last output."""

    exit_code: ClassVar[int] = 1
    kind: ClassVar[FailureKind] = "failed"

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(EdgeDeployError):
    """What the user gave is wrong: a file, a key, a shape, an option."""

    exit_code = 2
    kind = "input"


class ExportError(InputError):
    """The model could not be turned into a sound ONNX file."""


class DataError(InputError):
    """A data set is empty, mislabelled, or does not fit the model's inputs."""


class MissingError(EdgeDeployError):
    """A toolchain, device or instrument is not there."""

    exit_code = 3
    kind = "missing"


class UnsupportedError(EdgeDeployError):
    """The target cannot run this model, and nothing is broken."""

    exit_code = 4
    kind = "unsupported"


class WorkerError(EdgeDeployError):
    """A program raised, crashed, hung, ran out of memory or answered nonsense."""


class StrictError(EdgeDeployError):
    """A toolchain did less than it was asked for, and the user wants that to fail."""


class ConnectionLostError(WorkerError):
    """The link to another host, or that host, went away while something ran there."""


class StorageError(EdgeDeployError):
    """A file could not be written or read back: disk full, no permission, cut in half."""


class GateError(EdgeDeployError):
    """A comparison or a check the user asked to be a gate says no."""

    exit_code = 5


def nearest(word: str, known: list[str]) -> str:
    """A sentence naming the closest known word, or all of them where none is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(sorted(known))}." if known else "None are known."
