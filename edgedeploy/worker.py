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

import psutil

from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    UnsupportedError,
    WorkerError,
)

INPROC = Path(__file__).with_name("_inproc")
SERVE = INPROC / "serve.py"
LOG_TAIL = 2000
POLL_S = 0.5
KINDS: dict[str, type[EdgeDeployError]] = {
    "missing": MissingError,
    "unsupported": UnsupportedError,
    "input": InputError,
}
Event = dict[str, Any]


def memory_limit_bytes() -> int:
    """What one worker may take: `EDGEDEPLOY_WORKER_MEMORY_BYTES`, else 90 % of what is free now."""
    named = os.environ.get("EDGEDEPLOY_WORKER_MEMORY_BYTES")
    if named is None:
        return int(psutil.virtual_memory().available * 0.9)
    try:
        return int(named)
    except ValueError as err:
        msg = f"EDGEDEPLOY_WORKER_MEMORY_BYTES is {named!r}, expected a number of bytes"
        raise InputError(msg, hint="For 4 GB set it to 4000000000, or unset it.") from err


class Worker:
    """A program being served; a context manager, and no process outlives it.

    `command` starts serve.py for the program wherever it is to run. One call at a time.
    """

    def __init__(self, name: str, command: list[str], *, timeout_s: float = 600.0) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.meta: dict[str, Any] = {}
        self._limit = memory_limit_bytes()
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile(prefix="edgedeploy-log-"))
            self._open = stack.pop_all()
        self._rest = b""
        self._called = ""
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
        self.close(grace_s=0.0 if kind else 2.0)

    def close(self, grace_s: float = 2.0) -> None:
        """End the process and all it started; waits `grace_s` for it to leave by itself."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
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
        request = json.dumps({"call": function, "arguments": arguments}).encode() + b"\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except OSError:
            self._process.wait(5)
            raise self._ended() from None

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
            line = self._line(deadline, limit_s)
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self._kill()
                msg = f"{self.name} answered {line[:80]!r} to {self._called}, expected JSON"
                raise WorkerError(msg, hint="Its log is in the row.", log=self.log())
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

    def _line(self, deadline: float, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0:
                self._kill()
                msg = f"{self.name} gave no answer to {self._called} within {limit_s:g} s"
                hint = "Raise --timeout, or see the log for where it stands."
                raise WorkerError(msg, hint=hint, log=self.log())
            ready, _, _ = select.select([descriptor], [], [], min(left, POLL_S))
            if not ready:
                self._check_memory()
                continue
            block = os.read(descriptor, 1 << 16)
            if not block:
                self._process.wait()
                raise self._ended()
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _check_memory(self) -> None:
        try:
            used = psutil.Process(self._process.pid).memory_info().rss
        except psutil.Error:
            return
        if used > self._limit:
            self._kill()
            msg = (
                f"{self.name} took {used / 1e9:.2f} GB in {self._called},"
                f" over its limit of {self._limit / 1e9:.2f} GB"
            )
            hint = "Use fewer calibration samples, or raise EDGEDEPLOY_WORKER_MEMORY_BYTES."
            raise WorkerError(msg, hint=hint, log=self.log())

    def _failure(self, error: dict[str, Any]) -> EdgeDeployError:
        kind = KINDS.get(error["kind"], WorkerError)
        message = error["message"]
        if kind is WorkerError:
            message = f"{self.name}: {error['type']}: {message}"
        log = "\n".join(part for part in (self.log(), error["traceback"].strip()) if part)
        return kind(message, hint=error["hint"], log=log[-LOG_TAIL:])

    def _ended(self) -> WorkerError:
        code = self._process.returncode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                how += " (the system does that when memory runs out)"
        else:
            how = f"ended with exit code {code}"
        msg = f"{self.name} {how} during {self._called}"
        return WorkerError(msg, hint="Its last output is in the row's log.", log=self.log())

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
