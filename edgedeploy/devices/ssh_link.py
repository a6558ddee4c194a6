"""A session with a Python on another host, over the user's own ssh."""

import contextlib
import functools
import json
import os
import select
import shlex
import shutil
import subprocess
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec

from edgedeploy._inproc.far import CONTROL, END
from edgedeploy.devices.ssh_errors import OTHER_PYTHON, last_words, refused
from edgedeploy.errors import (
    ConnectionLostError,
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    WorkerError,
)
from edgedeploy.inventory import PYTHON, base_name, check_host, host_variable
from edgedeploy.records import Record
from edgedeploy.worker import INPROC, Worker

SENT = ("far", "far_session", "far_lock", "far_keep", "far_serve")
# The whole of what a shell over there gets to see: it is a fixed text, all else comes after it.
REMOTE = (
    "exec {python} -I -c 'import os,base64;"
    'exec(base64.b64decode(os.fdopen(0,"rb",0,closefd=False).readline()))\''
)
FIRST_LINE = """
import os, zlib
text = b""
while len(text) < %d:
    block = os.read(0, %d - len(text))
    if not block:
        raise SystemExit(3)
    text += block
exec(zlib.decompress(text))
"""
BUNDLE = """
import sys, types
sources = %r
def load(name):
    full = "edgedeploy._inproc." + name
    module = sys.modules[full] = types.ModuleType(full)
    exec(compile(sources[name], name + ".py", "exec"), module.__dict__)
    return module
far = load("far")
far.check_python()
for name in %r:
    load(name)
far.main()
"""
CONNECT_S = 15
HELLO_S = 120.0
# How long the far end may take to end what it runs, before this end no longer waits for it.
LEAVE_S = 5.0
NOISE_BYTES = 1 << 16
LOST_HINT = "Nothing is left running over there. Check the network and the host, then run again."


class SshOptions(Record):
    """`device_options.ssh` of a target: how its host is reached, and what is there.

    `python`, `folder` (for what is sent), `lock` (runs of the same name exclude each other; one a
    host where it is "") and `port` (of a board on a serial line) are of that host. An end that
    hears nothing of the other for `silence_s` takes it for gone.
    """

    host: str = ""
    python: str = "python3"
    folder: str = ""
    lock: str = ""
    port: str = ""
    silence_s: float = 60.0


class Host(Record):
    """What a host says of itself; `boot` changes with each start of it."""

    python: str
    machine: str
    host: str
    machine_id: str
    boot: str
    user: str
    home: str
    pid: int


def checked(options: SshOptions, where: str) -> SshOptions:
    """`options` where ssh may be called with them; else an `InputError` that begins with `where`.

    A host or a Python is a word that no shell reads as more than that, and no option.
    """
    if options.host:
        check_host(options.host, where)
    if not PYTHON.fullmatch(options.python):
        msg = f"{where}: python is {options.python!r}, expected a command or a path without blanks"
        raise InputError(msg, hint='For example python = "~/venv/bin/python".')
    if not options.silence_s > 0:
        msg = f"{where}: silence_s is {options.silence_s}, expected seconds"
        raise InputError(msg, hint="For example silence_s = 60.")
    return options


def ssh_command(options: SshOptions) -> list[str]:
    """The command that opens a session; `MissingError` without an ssh here.

    `EDGEDEPLOY_SSH` names another ssh, with arguments of its own.
    """
    named = os.environ.get("EDGEDEPLOY_SSH", "")
    try:
        program = shlex.split(named) or ["ssh"]
    except ValueError as err:
        msg = f"EDGEDEPLOY_SSH is {named!r}, which is no command: {err}"
        raise InputError(msg, hint="For example EDGEDEPLOY_SSH='ssh -F my-config'.") from None
    if shutil.which(program[0]) is None:
        msg = f"{program[0]} is not there: devices on another host are reached with OpenSSH"
        raise MissingError(msg, hint="Install openssh-client.")
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(max(1, min(CONNECT_S, round(options.silence_s)))),
        "ServerAliveInterval": str(max(1, round(options.silence_s / 4))),
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
        # a connection that others share may be used, but none is left behind for them
        "ControlMaster": "no",
    }
    flags = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    remote = REMOTE.format(python=options.python)
    return [*program, "-T", "-x", "-a", *flags, "--", options.host, remote]


@functools.cache
def opening() -> bytes:
    """What is sent first: a line that reads the rest, and the far end's own program."""
    sources = {name: (INPROC / f"{name}.py").read_text(encoding="utf-8") for name in SENT}
    packed = zlib.compress((BUNDLE % (sources, SENT[1:])).encode(), 9)
    line = FIRST_LINE % (len(packed), len(packed))
    return b64encode(line.encode()) + b"\n" + packed


class Link(Worker):
    """A session, and a worker for whoever answers at its far end; see `Worker`.

    `order` is what the far end is to do. Both ends tell the other that they are there. Raises what
    `refused` gives where no session comes about, `ConnectionLostError` once one breaks; `on_loss`
    is called then, and may say more.
    """

    def __init__(
        self,
        name: str,
        target: str,
        options: SshOptions,
        order: dict[str, Any],
        *,
        on_loss: Callable[[], str] = str,
        timeout_s: float = 600.0,
        grace_s: float = 15.0,
    ) -> None:
        self.options = options
        self._on_loss = on_loss
        self._variable = host_variable(base_name(target))
        self._writing = threading.RLock()
        self._ending = threading.Event()
        self._heard = time.monotonic()
        self._closed = False
        self._half_sent = False
        self._leave_s = 0.0
        self.host: Host | None = None
        super().__init__(name, ssh_command(options), timeout_s=timeout_s, grace_s=grace_s)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self._said = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._asks, False)
        self._beat_s = min(10.0, options.silence_s / 4)
        try:
            self._begin(order)
        except BaseException:
            self.close(0.0)
            raise
        threading.Thread(target=self._beat, name="ssh-beat", daemon=True).start()

    def _begin(self, order: dict[str, Any]) -> None:
        self._called = "the start of the session"
        self._send(opening())
        noise = bytearray()
        deadline = time.monotonic() + HELLO_S
        while self.host is None:
            line = Worker._line(self, deadline, HELLO_S)
            before, found, control = line.rpartition(CONTROL)
            if found:
                self._meet(self._own_words(control))
                continue
            noise += before or line
            if len(noise) > NOISE_BYTES:
                msg = f"{self.options.host} prints without end where an answer was expected"
                hint = f"Let its login files print nothing: ssh {self.options.host} true"
                raise MissingError(msg, hint=hint, log=noise[:400].decode(errors="replace"))
        folder = self.options.folder or "~/.cache/edgedeploy"
        pace = {"silence_s": self.options.silence_s, "beat_s": self._beat_s}
        self._send(json.dumps({"folder": folder, **pace, **order}).encode() + b"\n")

    def _meet(self, said: dict[str, Any]) -> None:
        if "old" in said:
            msg = (
                f"{self.options.python} on {self.options.host} is Python {said['old']}, expected"
                " 3.8 or later"
            )
            raise MissingError(msg, hint=OTHER_PYTHON)
        try:
            self.host = msgspec.convert(said.get("hello"), Host)
        except msgspec.ValidationError:
            raise self._unheard_of(said) from None
        self._leave_s = LEAVE_S

    def _own_words(self, text: bytes) -> dict[str, Any]:
        """What the far end says itself; it may be anyone's."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self._unheard_of(text.decode(errors="replace"))
        return said

    def _unheard_of(self, said: object) -> WorkerError:
        self._kill()
        msg = f"{self.options.host} says {str(said)[:80]!r}, which is no word of its far end"
        return WorkerError(msg, hint=f"What answers there? Try: ssh {self.options.host}")

    def is_open(self) -> bool:
        """Whether ssh still runs; what it has not noticed yet is not known here either."""
        return not self._over and self._process.poll() is None

    def close(self, grace_s: float = 2.0) -> None:
        """End the session and what it runs over there; waits for that end to say so."""
        self._closed = True
        self._ending.set()
        with self._writing:
            super().close(grace_s)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._asks, select.POLLOUT)
        poll.register(self._said, select.POLLIN)
        self._heard = time.monotonic()
        with self._writing:
            self._half_sent = True
            while view:
                ready = dict(poll.poll(self._beat_s * 1e3))
                if ready.get(self._said, 0) & select.POLLIN:
                    self._take(self._said)
                if self._asks in ready:
                    try:
                        view = view[os.write(self._asks, view[: 1 << 16]) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        raise self._why_unread() from None
                self._check_silence()
            self._half_sent = False

    def _why_unread(self) -> EdgeDeployError:
        """The far end reads no more: what it, or ssh, says of that."""
        deadline = time.monotonic() + LEAVE_S
        try:
            while True:
                self._line(deadline, LEAVE_S)
        except EdgeDeployError as err:
            return err

    def _line(self, deadline: float, limit_s: float) -> bytes:
        self._heard = time.monotonic()
        while True:
            line = super()._line(deadline, limit_s)
            _, found, control = line.rpartition(CONTROL)
            if found:
                self._hear(self._own_words(control))
            elif line:
                return line

    def _hear(self, said: dict[str, Any]) -> None:
        """What the far end says itself, rather than the one it serves."""
        if "ended" in said:
            self._kill()
            ended = said["ended"]
            raise self._end_of_program(-ended["signal"] if "signal" in ended else ended["code"])
        if "failed" in said:
            msg = f"{self.options.host}: {said['failed']}"
            raise StorageError(msg, hint=self._remedy(StorageError))

    def _take(self, descriptor: int) -> None:
        super()._take(descriptor)
        self._heard = time.monotonic()

    def _check(self, now: float) -> None:
        super()._check(now)
        self._check_silence()

    def _check_silence(self) -> None:
        silent_s = time.monotonic() - self._heard
        if silent_s > self.options.silence_s:
            self._leave_s = 0.0
            self._kill()
            how = f"nothing was heard for {silent_s:.0f} s"
            raise self.lost(how)

    def _beat(self) -> None:
        poll = select.poll()
        poll.register(self._asks, select.POLLOUT)
        while not self._ending.wait(self._beat_s):
            with self._writing:
                if self._closed or self._over:
                    return
                if poll.poll(0):
                    with contextlib.suppress(OSError):  # who asks next finds that out
                        os.write(self._asks, b"\n")

    def _kill(self) -> None:
        """End the far end, by word where it still hears, then ssh."""
        self._ending.set()
        with self._writing:
            if not self._over and self._process.poll() is None:
                assert self._process.stdin is not None
                if not self._process.stdin.closed:
                    with contextlib.suppress(OSError):
                        if not self._half_sent:
                            os.write(self._asks, END + b"\n")
                    self._process.stdin.close()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(self._leave_s)
            super()._kill()

    def _ended(self) -> WorkerError:
        """ssh is gone, and the far end did not say that it is through."""
        self._kill()
        code, said = self._process.returncode, self.log()
        if code < 0:
            return self.lost(f"ssh was killed by signal {-code}")
        if self.host is None:
            raise refused(self.options.host, self.options.python, self._variable, code, said)
        if code == 255:
            return self.lost(last_words(said) or "ssh ended without a word")
        if code == 3:
            return self.lost("it was ended over there")
        return self._end_of_program(code)

    def lost(self, how: str) -> ConnectionLostError:
        """The error for a link that broke."""
        if self.host is None:
            msg = f"{self.options.host} does not answer: {how}"
            return ConnectionLostError(msg, hint=f"Try: ssh {self.options.host}", log=self.log())
        now = self._on_loss()
        msg = f"{self.name}: the connection was lost during {self._called}: {how}{now}"
        return ConnectionLostError(msg, hint=LOST_HINT, log=self.log())

    def _remedy(self, kind: type[EdgeDeployError]) -> str:
        if kind is StorageError:
            where = f"on {self.options.host}, or name another folder in devices.toml"
            return f"Free space or correct the permissions {where}: folder = ..."
        if kind is MissingError:
            return f"Install it on {self.options.host}, or name a Python with it: python = ..."
        return super()._remedy(kind)
