"""A program that never outlives the one who started it, however that one ends."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgedeploy._inproc.serve import kill_tree
from edgedeploy.errors import EdgeDeployError

SUPERVISE = Path(__file__).with_name("supervise.py")
LOG_TAIL = 4000


class Supervised:
    """A command under supervise.py; `passed` are descriptors it inherits.

    `stop` ends it at once. What it prints is kept: `output` gives the tail of both streams.
    """

    def __init__(self, command: list[str], *, passed: tuple[int, ...] = ()) -> None:
        self.command = command
        with contextlib.ExitStack() as stack:
            self._log = stack.enter_context(tempfile.TemporaryFile(prefix="edgedeploy-log-"))
            self._open = stack.pop_all()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISE), *command],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=passed,
                start_new_session=True,
            )
        except OSError as err:
            self._open.close()
            msg = f"{command[0]} cannot be started: {err.strerror}"
            raise EdgeDeployError(msg, hint="Is the machine out of processes or memory?") from err
        self.pid = self._process.pid

    def exit_code(self) -> int | None:
        """The command's exit code, 128 + N after signal N; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int:
        """Its exit code; `TimeoutError` where it does not end in that time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as err:
            msg = f"{self.command[0]} did not end within {timeout_s:g} s"
            raise TimeoutError(msg) from err

    def output(self, most: int = LOG_TAIL) -> str:
        """The tail of what it printed."""
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), most, max(0, size - most))
        return text.decode(errors="replace").strip()

    def stop(self) -> None:
        """End it, and all it started; harmless where it has ended."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        if self._process.poll() is None:
            kill_tree(self._process.pid)
            self._process.wait()
        self._open.close()


def run_supervised(command: list[str], timeout_s: float, most: int) -> tuple[int, str, float]:
    """Run a command to its end: exit code, the tail of its output, seconds taken.

    Raises `TimeoutError`, with the output so far as its second argument.
    """
    start = time.perf_counter()
    running = Supervised(command)
    try:
        code = running.wait(timeout_s)
        return code, running.output(most), time.perf_counter() - start
    except TimeoutError as err:
        raise TimeoutError(str(err), running.output(most)) from err
    finally:
        running.stop()
