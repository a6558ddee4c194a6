"""A real ssh server on loopback, as this user and with keys of its own, and a target behind it."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.records import Target

SETTINGS = """
ListenAddress 127.0.0.1
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
MaxSessions 100
# the newest way to agree on keys takes longer than all else here
KexAlgorithms curve25519-sha256
"""


class Sshd:
    """The server; `client` gives an ssh configuration by which the host `far` is reached."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "log"
        self.shared = contextlib.ExitStack()
        self._control = ""
        for name in ("host_key", "other_key", "id"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (folder / "authorized").write_text((folder / "id.pub").read_text())
        config = folder / "sshd_config"
        # nothing of the user's own files over there, such as what a shell reads at its start
        self.home = folder / "home"
        self.home.mkdir()
        own = (
            f"SetEnv HOME={self.home}\nPort {self.port}\nHostKey {folder}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized\n"
        )
        config.write_text(own + SETTINGS + "PerSourcePenalties no\n")
        program = str(shutil.which("sshd", path=search_path()))
        checked = subprocess.run(
            [program, "-t", "-f", str(config)], check=False, capture_output=True, text=True
        )
        if "PerSourcePenalties" in checked.stderr:  # an sshd that does not punish yet
            config.write_text(own + SETTINGS)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
            )

    def __enter__(self) -> "Sshd":
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"sshd does not start here: {self.log.read_text().strip()[-200:]}")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.shared.close()
        self.process.terminate()
        self.process.wait(10)

    def share(self) -> dict[str, str]:
        """Settings for `client` by which sessions share one connection: they begin sooner."""
        if not self._control:
            # a socket's path must be short
            home = Path(self.shared.enter_context(tempfile.TemporaryDirectory(prefix="edge-")))
            control = home / "link"
            command = ["ssh", "-F", str(self.client()), "-M", "-N", "-T", "-S", str(control), "far"]
            master = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            self.shared.callback(master.wait, 10)
            self.shared.callback(master.terminate)
            deadline = time.monotonic() + 20
            while not control.exists():
                assert master.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            self._control = str(control)
        return {"ControlPath": self._control}

    def client(self, port: int | None = None, key: str = "host_key", **settings: str) -> Path:
        """A configuration for ssh; `port` is where to go in the server's place."""
        port = self.port if port is None else port
        name = uuid.uuid4().hex[:8]
        known = self.folder / f"{name}.known"
        if key:
            known.write_text(f"[127.0.0.1]:{port} {(self.folder / f'{key}.pub').read_text()}")
        entries = {
            "HostName": "127.0.0.1",
            "Port": str(port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.folder / "id"),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            **settings,
        }
        path = self.folder / f"{name}.config"
        lines = [f"  {key} {value}" for key, value in entries.items()]
        path.write_text("\n".join(["Host far", *lines, ""]))
        return path


class FarHost:
    """A host named `far` on which nothing is but a Python; what goes there lies in `folder`."""

    def __init__(
        self, sshd: Sshd, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
    ) -> None:
        self.sshd = sshd
        self.folder = folder
        self.token = uuid.uuid4().hex[:12]
        self._monkeypatch = monkeypatch
        monkeypatch.setattr("edgedeploy.devices.ssh._known", {})  # a host never seen before
        self.through(**settings)

    def through(self, port: int | None = None, key: str = "host_key", **settings: str) -> None:
        """Go there by another port (a proxy's), or with another key known as the host's."""
        config = self.sshd.client(port, key, **settings)
        self._monkeypatch.setenv("EDGEDEPLOY_SSH", f"ssh -F {config}")

    def options(self, **options: Any) -> dict[str, Any]:
        """`device_options.ssh`; the lock is this test's own."""
        own = {"host": "far", "python": sys.executable, "folder": str(self.folder)}
        return {**own, "lock": self.token, **options}

    def target(self, profiler: str = "ort", **options: Any) -> Target:
        """A target there."""
        return Target(
            name="my-board",
            board="a board",
            transport="ssh",
            compiler="ort",
            profiler=profiler,
            device_options={"ssh": self.options(**options)},
        )


def search_path() -> str:
    """PATH, and where servers lie that users do not start."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _needed() -> None:
    for name in ("sshd", "ssh", "ssh-keygen"):
        if shutil.which(name, path=search_path()) is None:
            pytest.skip(f"{name} is not installed")
    if os.getuid() == 0:  # started by root it wants this folder, which a system makes at its start
        with contextlib.suppress(OSError):
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The server, one for all tests."""
    _needed()
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def far_host(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FarHost:
    """A host over ssh, reached by whatever edgedeploy starts in this test."""
    return FarHost(sshd, tmp_path / "far", monkeypatch, **sshd.share())
