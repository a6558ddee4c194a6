"""Compiler programs being served: started early, kept for the next call, in their interpreters."""

import sys
from pathlib import Path
from typing import Any

from edgedeploy import container
from edgedeploy.errors import EdgeDeployError, WorkerError
from edgedeploy.interpreter import Interpreter, choose, read_header, unmet
from edgedeploy.worker import SERVE, Worker


class Compilers:
    """Compiler programs being served, started early and kept for the next call; a context."""

    def __init__(self, *, timeout_s: float = 600.0) -> None:
        self._timeout_s = timeout_s
        self._workers: dict[Path, Worker] = {}
        self._waiting: set[Path] = set()
        self._interpreters: dict[Path, Interpreter] = {}
        self._tools: dict[Path, dict[str, str]] = {}

    def __enter__(self) -> "Compilers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close(grace_s=0.5)

    def interpreter(self, program: Path) -> Interpreter:
        """The interpreter of a program, on this host or in a container; chosen once."""
        if program not in self._interpreters:
            self._interpreters[program] = container.choose(program)
        return self._interpreters[program]

    def warm(self, program: Path) -> None:
        """Start a program and let it import its toolchain while something else goes on."""
        if program not in self._workers:
            chosen = self.interpreter(program)
            worker = container.serve(program, chosen, timeout_s=self._timeout_s)
            self._workers[program] = worker
            worker.start("probe")
            self._waiting.add(program)

    def unlisted(self, program: Path) -> dict[str, str]:
        """Versions of tools that no installed package tells, as parts of a cache key."""
        self.ready(program)
        listed = self.interpreter(program).versions
        found = {name: v for name, v in self._tools[program].items() if name not in listed}
        return {f"unlisted tool {name}": version for name, version in found.items()}

    def call(self, program: Path, function: str, **arguments: Any) -> dict[str, Any]:
        """Call a function of a program; a worker that broke is started anew next time."""
        worker = self.ready(program)
        try:
            answer = worker.call(function, **arguments)
        except WorkerError:
            self._workers.pop(program).close(grace_s=0.0)
            raise
        return answer | {"log": worker.log(), "worker": worker.meta}

    def call_alone(self, program: Path, function: str, **arguments: Any) -> dict[str, Any]:
        """Call a function in a process of its own on this host, that needs no toolchain."""
        # the interpreter named for the toolchain may be what is wrong
        here = not unmet(read_header(program))
        command = [sys.executable if here else choose(program).path, str(SERVE), str(program)]
        with Worker(program.stem, command, timeout_s=self._timeout_s) as worker:
            return worker.call(function, **arguments)

    def ready(self, program: Path) -> Worker:
        """The worker of a program, its toolchain imported."""
        self.warm(program)
        worker = self._workers[program]
        if program in self._waiting:
            self._waiting.discard(program)
            try:
                self._tools[program] = worker.finish().get("tools", {})
            except EdgeDeployError:
                self._workers.pop(program).close(grace_s=0.0)
                raise
        return worker
