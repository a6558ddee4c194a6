"""Run one program in a process of its own and call its functions; JSON lines cross the boundary."""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgedeploy._inproc.serve import kill_tree
from edgedeploy.cache import STORAGE_HINT
from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.interpreter import variable
from edgedeploy.memory import memory_bytes, memory_limit_bytes

INPROC = Path(__file__).with_name("_inproc")
SERVE = INPROC / "serve.py"
LOG_TAIL = 2000
# A program that prints without end must not fill the disk.
LOG_MOST_BYTES = 256 << 20
# Nor must one that never ends its line fill the memory.
LINE_MOST_BYTES = 1 << 30
POLL_S = 0.2
KINDS: dict[str, type[EdgeDeployError]] = {
    "missing": MissingError,
    "unsupported": UnsupportedError,
    "input": InputError,
    "storage": StorageError,
}
# For a program that gives no remedy of its own.
HINTS: dict[type[EdgeDeployError], str] = {
    MissingError: "Install it, or set {variable} to a Python that has it (`edgedeploy doctor`).",
    UnsupportedError: "Take another target or precision, or change the model where it says.",
    InputError: "Correct what it names; the log shows where it was found.",
    StorageError: STORAGE_HINT,
    WorkerError: "The traceback is in its log.",
}
Event = dict[str, Any]


class Worker:
    """A program being served; a context manager, and no process outlives it.

    `command` starts serve.py for the program wherever it is to run. One call at a time. `grace_s`
    is how long the process may take to leave by itself: 0 where nothing over there needs closing.
    """

    def __init__(
        self, name: str, command: list[str], *, timeout_s: float = 600.0, grace_s: float = 2.0
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.grace_s = grace_s
        self.meta: dict[str, Any] = {}
        self._limit = memory_limit_bytes()
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile(prefix="edgedeploy-log-"))
            self._open = stack.pop_all()
        self._rest = bytearray()
        self._called = ""
        self._over = False
        self._next_check = time.monotonic() + POLL_S
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as err:
            self._open.close()
            msg = f"{name} cannot be started: {err.strerror}: {command[0]}"
            raise WorkerError(msg, hint="`edgedeploy doctor` shows the interpreters.") from err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(grace_s=0.0 if kind else self.grace_s)

    def close(self, grace_s: float = 2.0) -> None:
        """End the process and all it started; waits `grace_s` for it to leave by itself."""
        if grace_s <= 0:
            self._kill()
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._kill()
        if self._process.stdout:
            self._process.stdout.close()
        self._open.close()

    def log(self) -> str:
        """The tail of what the program and its libraries printed."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LOG_TAIL, max(0, size - LOG_TAIL))
        return text.decode(errors="replace").strip()

    def start(self, function: str, **arguments: Any) -> None:
        """Send a request and do not wait: `finish` takes the answer."""
        self._called = function
        self._send(json.dumps({"call": function, "arguments": arguments}).encode() + b"\n")

    def finish(
        self, *, on_event: Callable[[Event], None] | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The answer to the request under way.

        Raises the typed error that the program's exception stands for, or `WorkerError` when the
        process crashed, hung past its time limit, took too much memory or answered nonsense.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        while True:
            message = self._message(self._line(deadline, limit_s))
            if "event" in message:
                if on_event:
                    on_event(message)
                continue
            self.meta = {key: message.get(key) for key in ("python", "peak_memory_bytes")}
            if "error" in message:
                raise self._failure(message["error"])
            answer: dict[str, Any] = message["answer"]
            return answer

    def call(
        self,
        function: str,
        *,
        on_event: Callable[[Event], None] | None = None,
        timeout_s: float | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Call a function of the program and wait for its answer (see `finish`)."""
        self.start(function, **arguments)
        return self.finish(on_event=on_event, timeout_s=timeout_s)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            raise self._ended() from None

    def _line(self, deadline: float, limit_s: float) -> bytes:
        """The next line that came, without its end."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            now = time.monotonic()
            if now >= deadline:
                self._kill()
                msg = f"{self.name} gave no answer to {self._called} within {limit_s:g} s"
                hint = "Raise --timeout; the log shows where it stood."
                raise WorkerError(msg, hint=hint, log=self.log())
            if now >= self._next_check:
                self._check(now)
            gone = self._process.poll() is not None
            if poll.poll(max(0.0, min(deadline - now, POLL_S)) * 1e3):
                self._take(descriptor)
            elif gone:  # and what it started holds the pipe open
                raise self._ended()
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _take(self, descriptor: int) -> None:
        """Keep what can be read."""
        block = os.read(descriptor, 1 << 20)
        if not block:
            self._process.wait()
            raise self._ended()
        self._rest += block
        if len(self._rest) > LINE_MOST_BYTES:
            self._kill()
            msg = f"{self.name} answered more than {LINE_MOST_BYTES:,} bytes to {self._called}"
            hint = "Large arrays belong into files that it writes."
            raise WorkerError(msg, hint=hint, log=self.log())

    def _message(self, line: bytes) -> dict[str, Any]:
        """A line as one of the three messages there are: an event, an answer, an error."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            kinds = message.keys() & {"event", "answer", "error"}
            if kinds == {"event"} or (
                len(kinds) == 1 and isinstance(message[next(iter(kinds))], dict)
            ):
                return message
        self._kill()
        found = line[:80].decode(errors="replace")
        msg = f"{self.name} answered {found!r} to {self._called}, expected a JSON object"
        hint = "A program returns a dict, and writes to no descriptor but 1 and 2."
        raise WorkerError(msg, hint=hint, log=self.log())

    def _check(self, now: float) -> None:
        self._next_check = now + POLL_S
        if os.fstat(self._log.fileno()).st_blocks * 512 > LOG_MOST_BYTES:
            os.ftruncate(self._log.fileno(), 0)
        used = memory_bytes(self._process.pid)
        if used > self._limit:
            self._kill()
            msg = (
                f"{self.name} took {used / 1e9:.2f} GB in {self._called},"
                f" over its limit of {self._limit / 1e9:.2f} GB"
            )
            hint = "Use fewer calibration samples, or raise EDGEDEPLOY_WORKER_MEMORY_BYTES."
            raise WorkerError(msg, hint=hint, log=self.log())

    def _failure(self, error: dict[str, Any]) -> EdgeDeployError:
        said = {key: str(error.get(key) or "") for key in ("type", "message", "hint", "traceback")}
        kind = KINDS.get(str(error.get("kind")), WorkerError)
        message = said["message"]
        if kind in {WorkerError, StorageError}:
            message = f"{self.name}: {said['type']}: {message}"
        hint = said["hint"] or self._remedy(kind)
        printed = self.log() if kind in {WorkerError, StorageError} else ""
        log = "\n".join(part for part in (printed, said["traceback"].strip()) if part)
        return kind(message, hint=hint, log=log[-LOG_TAIL:])

    def _remedy(self, kind: type[EdgeDeployError]) -> str:
        """What to do about a failure whose program does not say."""
        return HINTS[kind].format(variable=variable(Path(self.name)))

    def _ended(self) -> WorkerError:
        self._kill()
        return self._end_of_program(self._process.returncode)

    def _end_of_program(self, code: int) -> WorkerError:
        """The error for a program that ended unasked: with an exit code, or -N by signal N."""
        if code < 0:
            how = f"was killed by {_signal_name(-code)}"
            if code == -signal.SIGKILL:
                how += " (the system does that when memory runs out)"
        else:
            how = f"ended with exit code {code}"
        msg = f"{self.name} {how} during {self._called}"
        return WorkerError(msg, hint="Its last output is in the row's log.", log=self.log())

    def _kill(self) -> None:
        if not self._over:
            kill_tree(self._process.pid)
            self._process.wait()
        self._over = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last
        return f"signal {number}"
