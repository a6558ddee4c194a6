"""This computer: artifacts stay where they are, programs run in child processes."""

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from edgedeploy import container
from edgedeploy.interpreter import choose
from edgedeploy.worker import SERVE, Worker


class LocalDevice:
    """The host itself."""

    name = "localhost"
    transport = "local"
    notes: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""

    def check(self) -> None:
        """This computer is there."""

    def identity(self) -> str:
        """Machine, processor and host name: an accuracy of one CPU is not another's."""
        return f"{platform.machine()} {_processor()} {platform.node()}"

    def put(self, path: Path) -> str:
        """The path itself: nothing is copied."""
        return str(path)

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """A child process that serves `program` in the interpreter chosen for it."""
        interpreter = choose(program)
        command = [interpreter.path, str(SERVE), str(program)]
        return Worker(program.stem, command, timeout_s=timeout_s)

    @contextlib.contextmanager
    def exchange(self, given: Path, wanted: Path | None) -> Iterator[tuple[str, str]]:
        """The paths themselves: programs run where the files are."""
        yield str(given), str(wanted or "")

    def run_options(self) -> dict[str, Any]:
        """Nothing: programs run where the artifact is."""
        return {}


class ToolchainHost(LocalDevice):
    """This computer, where programs run in the container named for their toolchain, if any."""

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """A process that serves `program` where its toolchain is."""
        return container.serve(program, timeout_s=timeout_s)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
