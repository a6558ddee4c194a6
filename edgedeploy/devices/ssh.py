"""A target on another host: files go there once, programs run there, over the user's own ssh."""

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from edgedeploy.devices.ssh_keep import Keeper
from edgedeploy.devices.ssh_link import Host, Link, SshOptions, checked
from edgedeploy.digest import file_sha256
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, InputError, MissingError
from edgedeploy.inventory import base_name, lacks_host
from edgedeploy.records import Target
from edgedeploy.share import program_files
from edgedeploy.target import runtime_program
from edgedeploy.toml import decode
from edgedeploy.worker import INPROC, Worker

L = TypeVar("L", bound=Link)
ASK_TIMEOUT_S = 60.0
# Of a host that does not tell when it was started.
NO_BOOT = "?"
ASK = {"role": "ask"}


class Known:
    """What this process knows of a host: since when it is up, and which sessions it ended there.

    Where a link breaks without a word, the far end does not know yet: the next session tells it.
    """

    def __init__(self) -> None:
        self.boot = ""
        self.ended: list[str] = []


_known: dict[str, Known] = {}


class SshDevice:
    """The host of a target, reached over ssh; entered, its device is this run's alone.

    `notes` tell what happened to the host since this process last saw it.
    """

    transport = "ssh"

    def __init__(self, target: Target) -> None:
        where = f"target {target.name}: device_options.ssh"
        self._options = checked(
            decode(target.device_options.get("ssh", {}), SshOptions, where), where
        )
        self._target = target
        self._token = uuid.uuid4().hex
        self._keeper: Keeper | None = None
        self.name = f"{base_name(target.name)} at {self._options.host or 'no host'}"
        self.notes: tuple[str, ...] = ()
        self._known = _known.setdefault(self._options.host, Known())
        self._serial = target.device_options.get("serial")

    def __enter__(self) -> Self:
        keeper = self._reach(
            lambda: Keeper(
                self.name,
                self._target.name,
                self._options,
                {"role": "keep", "token": self._token, "dead": self._known.ended},
                on_loss=self._lost,
            )
        )
        try:
            keeper.finish(timeout_s=ASK_TIMEOUT_S)
            keeper.lock(self._locks(), self._ports())
        except BaseException:
            self._end(keeper, 0.0)
            raise
        self._keeper = keeper
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._end(keeper, 0.0 if kind else 2.0)

    def check(self) -> None:
        """Raise `MissingError` where no host is named, or none with a Python is reached."""
        self._ask()

    def identity(self) -> str:
        """Machine, host name and id of that host: the numbers of one device are not another's."""
        host = self._keeper.host if self._keeper else self._ask()
        assert host is not None
        which = f"{host.machine} {host.host} {host.machine_id[:12]}".strip()
        return f"{base_name(self._target.name)} {which} {self._options.port}".strip()

    def put(self, path: Path) -> str:
        """Bring a file or folder there, unless it is there already; answers where it lies.

        A board behind that host must hold the model already: `InputError` where it does not, as
        nothing is flashed over there. Raises `StorageError` for a full disk.
        """
        if path.is_dir():
            files = {
                each.relative_to(path).as_posix(): each
                for each in sorted(path.rglob("*"))
                if each.is_file()
            }
            place = self._entered().tree(files, strict=True)
        else:
            place = f"{self._entered().tree({path.name: path}, strict=True)}/{path.name}"
        if self._serial is not None:
            self._must_hold(path, place)
        return place

    def worker(self, program: Path, *, timeout_s: float = 600.0) -> Worker:
        """A process over there that serves `program`; it ends when the link does."""
        keeper = self._entered()
        place = keeper.tree(_with_server(program), strict=False)
        order = {
            "role": "serve",
            "serve": f"{place}/_inproc/serve.py",
            "program": f"{place}/program/{program.name}",
            "token": self._token,
        }
        name = f"{program.stem} on {self._options.host}"
        return self._reach(
            lambda: RemoteWorker(
                name,
                self._target.name,
                self._options,
                order,
                on_loss=self._lost,
                timeout_s=timeout_s,
                device=self,
            )
        )

    def exchange(
        self, given: Path, wanted: Path | None
    ) -> contextlib.AbstractContextManager[tuple[str, str]]:
        """See `Device.exchange`; both ways are checked by hash."""
        return self._entered().exchange(given, wanted)

    def run_options(self) -> dict[str, Any]:
        """`port` and `baud` of a board on a serial line of that host, else nothing."""
        if self._serial is None:
            return {"port": self._options.port} if self._options.port else {}
        port = self._options.port or self._serial.get("port", "")
        if not port:
            msg = f"target {self._target.name}: no serial port of {self._options.host} is named"
            raise InputError(msg, hint='Name it: port = "/dev/ttyACM0" in devices.toml, or --port.')
        return {"port": port, "baud": self._serial.get("baud", 115200)}

    def link_is_open(self) -> bool:
        """Whether the session that keeps the device still stands."""
        return self._keeper is None or self._keeper.is_open()

    def _end(self, keeper: Keeper, grace_s: float) -> None:
        keeper.close(grace_s)
        self._known.ended = [*self._known.ended[-31:], self._token]
        self._token = uuid.uuid4().hex

    def _entered(self) -> Keeper:
        if self._keeper is None:
            msg = f"{self.name} is not entered"
            raise RuntimeError(msg)
        return self._keeper

    def _locks(self) -> list[str]:
        return [self._options.lock or "host"]

    def _ports(self) -> list[str]:
        return [str(self.run_options()["port"])] if "port" in self.run_options() else []

    def _ask(self) -> Host:
        """What the host says of itself, in a session of its own."""
        link = self._reach(lambda: Link(self.name, self._target.name, self._options, ASK))
        link.close()
        assert link.host is not None
        return link.host

    def _reach(self, make: Callable[[], L]) -> L:
        """A session. A host that does not answer is missing, or lost where it did before."""
        if not self._options.host:
            msg = f"target {self._target.name} is on another host, and none is named"
            raise MissingError(msg, hint=lacks_host(self._target))
        known = self._known
        try:
            link = make()
        except ConnectionLostError as err:
            if known.boot:
                raise
            raise MissingError(err.message, hint=err.hint, log=err.log) from None
        assert link.host is not None
        if known.boot and (link.host.boot or NO_BOOT) != known.boot:
            self.notes = (*self.notes, f"{self._options.host} was started anew meanwhile")
        known.boot = link.host.boot or NO_BOOT
        return link

    def _lost(self) -> str:
        """What can be told of the host now that its link is lost."""
        host, boot = self._options.host, self._known.boot
        try:
            link = Link(self.name, self._target.name, self._options, ASK)
        except EdgeDeployError as err:
            return f"; {err.message}"
        link.close()
        again = link.host is not None and (link.host.boot or NO_BOOT) != boot
        return f"; {host} was started anew" if again else f"; {host} itself is up"

    def _must_hold(self, path: Path, place: str) -> None:
        options = {**self._target.run_options, **self.run_options()}
        program = runtime_program(self._target.profiler)
        with self.worker(program, timeout_s=ASK_TIMEOUT_S) as worker:
            found = worker.call("artifact_sha256", path=place, options=options)["sha256"]
        wanted = file_sha256(path)
        if found != wanted:
            msg = (
                f"the model behind {options['port']} of {self._options.host} has hash"
                f" {str(found)[:12]}, the artifact's is {wanted[:12]}, and nothing is flashed there"
            )
            raise InputError(msg, hint="Flash it from that host, or plug the board in here.")


class RemoteWorker(Link):
    """A program served on another host, for as long as the session that keeps the device stands."""

    def __init__(self, *arguments: Any, device: SshDevice, **options: Any) -> None:
        self._device = device
        super().__init__(*arguments, **options)

    def _check(self, now: float) -> None:
        super()._check(now)
        if not self._device.link_is_open():
            self._kill()
            how = "the session that kept the device ended"
            raise self.lost(how)


def _with_server(program: Path) -> dict[str, Path]:
    """Where a program, its modules and what serves it lie over there, relative to one folder."""
    # the far end itself goes through each session's own stdin
    beside = (path for path in sorted(INPROC.glob("*.py")) if not path.name.startswith("far"))
    serving = {f"_inproc/{path.name}": path for path in beside}
    own = {
        f"program/{path.relative_to(program.parent).as_posix()}": path
        for path in program_files(program)
    }
    return {**serving, **own}
