"""What is sent to another host, here without ssh between: syntax, old Pythons, both its roles."""

import ast
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from misbehaving import gone

from edgedeploy._inproc.far import CONTROL, END
from edgedeploy._inproc.far_lock import Refused, in_use, opened
from edgedeploy.devices.ssh import SshDevice
from edgedeploy.devices.ssh_link import REMOTE, opening
from edgedeploy.errors import WorkerError
from edgedeploy.records import Target
from edgedeploy.worker import INPROC, SERVE

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
# Calls the shell here as a server would over there.
NO_SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
exec sh -c "$3"
"""
PROGRAM = """
import os, sys, subprocess, time

def tells():
    found = subprocess.check_output([sys.executable, "-c", "print(1)"])
    return {"python": list(sys.version_info[:2]), "child": found.decode().strip()}

def reverses(source, target):
    with open(source, "rb") as given, open(target, "wb") as wanted:
        wanted.write(given.read()[::-1])
    return {}

def pours():
    while True:
        os.write(1, b"x" * 65536)

def floods(size):
    return {"text": "x" * size}

def waits():
    time.sleep(60)
"""


class FarEnd:
    """far.py run here, spoken to by hand."""

    def __init__(
        self, folder: Path, role: str, *, command: tuple[str, ...] = (), **order: Any
    ) -> None:
        remote = REMOTE.format(python="python3" if command else sys.executable)
        self.process = subprocess.Popen(
            [*command, "sh", "-c", remote], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.given, self.said = self.process.stdin, self.process.stdout
        pace = {"silence_s": 30.0, "beat_s": 5.0, "token": "t", "dead": [], "folder": str(folder)}
        self.send(opening())
        self.hello = self.line()["hello"]
        self.send(json.dumps({"role": role, **pace, **order}).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.given.close()
        self.said.close()
        self.process.wait(15)

    def send(self, data: bytes) -> None:
        self.given.write(data)
        self.given.flush()

    def ask(self, function: str, **arguments: Any) -> None:
        self.send(json.dumps({"call": function, "arguments": arguments}).encode() + b"\n")

    def line(self) -> dict[str, Any]:
        """The next line that says something."""
        while True:
            line = self.said.readline()
            assert line, "the far end is gone"
            if line.strip():
                found: dict[str, Any] = json.loads(line.rpartition(CONTROL)[2])
                return found


@pytest.fixture
def no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "no-ssh"
    path.write_text(NO_SSH)
    path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("EDGEDEPLOY_SSH", str(path))
    monkeypatch.setattr("edgedeploy.devices.ssh._known", {})
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "plain.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def serving(tmp_path: Path, program: Path) -> Iterator[FarEnd]:
    with FarEnd(tmp_path / "far", "serve", serve=str(SERVE), program=str(program)) as far:
        assert far.line()["started"] > 0
        yield far


def oldest() -> str | None:
    found = [str(path) for path in PYENV.glob("versions/3.8.*/bin/python3")]
    return next(iter([*found, *filter(None, [shutil.which("python3.8")])]), None)


def test_the_syntax_of_what_is_sent() -> None:
    tree = ast.parse((INPROC / "far.py").read_text(), feature_version=(3, 5))
    # what a parser of today lets pass in the name of an old one
    newer = [n for n in ast.walk(tree) if isinstance(n, (ast.JoinedStr, ast.AnnAssign))]
    assert newer == []
    for path in INPROC.glob("far_*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
    assert len(opening()) < 20_000


@pytest.mark.parametrize("python", [*filter(None, [oldest()]), sys.executable])
@pytest.mark.usefixtures("no_ssh")
def test_a_whole_session(python: str, program: Path, tmp_path: Path) -> None:
    options = {"host": "x", "python": python, "folder": str(tmp_path / "far"), "lock": python}
    target = Target("board", "a board", "ssh", "c", "p", device_options={"ssh": options})
    given = tmp_path / "given.bin"
    given.write_bytes(bytes(range(256)) * 4096)
    with SshDevice(target) as device, device.worker(program) as worker:
        found = worker.call("tells")
        assert found["child"] == "1"
        assert python == sys.executable or found["python"] == [3, 8]
        assert Path(device.put(given)).read_bytes() == given.read_bytes()
        with device.exchange(given, tmp_path / "wanted") as (source, wanted):
            worker.call("reverses", source=source, target=wanted)
        with pytest.raises(WorkerError, match="plain on x: AttributeError"):
            worker.call("nowhere")
    assert (tmp_path / "wanted").read_bytes() == given.read_bytes()[::-1]
    assert list((tmp_path / "far" / "sessions").iterdir()) == []


def test_what_it_says_of_its_host(serving: FarEnd) -> None:
    hello = serving.hello
    assert hello["python"] == sys.version.split()[0]
    assert hello["pid"] == serving.process.pid
    assert (hello["machine"], hello["host"]) == (os.uname().machine, os.uname().nodename)


def test_lines_are_handed_on_in_any_pieces(serving: FarEnd) -> None:
    request = b'\n\n{"call": "tells", "arguments": {}}\n\n'
    for at in range(0, len(request), 7):
        serving.send(request[at : at + 7])
        time.sleep(0.01)
    assert serving.line()["answer"]["child"] == "1"


def test_an_end_is_told_behind_half_a_line(serving: FarEnd, tmp_path: Path) -> None:
    serving.ask("floods", size=3_000_000)
    half = serving.said.read(2_000_000)
    assert b"\n" not in half.lstrip(b"\n")
    (child,) = _children(serving.process.pid)
    serving.ask("waits")
    assert serving.said.readline().endswith(b"}\n")
    os.kill(child, signal.SIGSEGV)
    assert serving.line() == {"ended": {"signal": signal.SIGSEGV}}
    assert serving.process.wait(10) == 0
    assert list((tmp_path / "far" / "sessions").iterdir()) == []


@pytest.mark.parametrize("how", ["word", "closed", "silence", "terminated"])
def test_the_ways_to_end_it(tmp_path: Path, program: Path, how: str) -> None:
    silence_s = 0.5 if how == "silence" else 30.0
    order = {"serve": str(SERVE), "program": str(program), "beat_s": 0.1}
    with FarEnd(tmp_path / "far", "serve", silence_s=silence_s, **order) as far:
        child = far.line()["started"]
        # nobody reads what it says, and it says more than any pipe holds
        far.ask("floods", size=20_000_000)
        far.ask("waits")
        if how == "word":
            far.send(END + b"\n")
        elif how == "closed":
            far.given.close()
        elif how == "terminated":
            far.process.send_signal(signal.SIGTERM)
        # with its requests closed, the program may be the first to leave
        assert far.process.wait(20) in ({0, 3} if how == "closed" else {3})
        assert gone(child, 1.0)
    assert list((tmp_path / "far" / "sessions").iterdir()) == []


def test_a_keeper_that_hears_nothing_ends(tmp_path: Path) -> None:
    with FarEnd(tmp_path / "far", "keep", silence_s=0.4, beat_s=0.1) as far:
        assert far.line()["answer"]["folder"] == str(tmp_path / "far")
        name = f"quiet-{os.getpid()}"
        far.ask("lock", names=[name], ports=[], asker="me", wait_s=0.0)
        assert far.line() == {"answer": {}}
        for _ in range(4):
            far.send(b"\n")
            time.sleep(0.2)
        assert far.process.poll() is None
        assert far.process.wait(10) == -signal.SIGALRM
    # what it kept is free, and its folder goes with the next session
    with FarEnd(tmp_path / "far", "keep") as far:
        far.line()
        far.ask("lock", names=[name], ports=[], asker="me", wait_s=0.0)
        assert far.line() == {"answer": {}}
        assert len(list((tmp_path / "far" / "sessions").iterdir())) == 1


def test_a_lock_is_every_users(tmp_path_factory: pytest.TempPathFactory) -> None:
    other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "PATH=/usr/bin")
    fits = "import sys; sys.exit(sys.version_info < (3, 8))"
    if os.getuid() or subprocess.run([*other, "python3", "-c", fits], check=False).returncode:
        pytest.skip("it takes root, and a python3 in /usr/bin, to be two users")
    own = tmp_path_factory.mktemp("own")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        runs = [(own, ()), (Path(folder, "far"), other)]
        for first, second in (runs, runs[::-1]):
            asked = {"names": [f"users-{os.getpid()}"], "ports": [], "asker": "x", "wait_s": 0.0}
            with (
                FarEnd(first[0], "keep", command=first[1]) as holder,
                FarEnd(second[0], "keep", command=second[1]) as late,
            ):
                holder.line()
                holder.ask("lock", **asked)
                assert holder.line() == {"answer": {}}  # before the other asks
                late.line()
                late.ask("lock", **asked)
                error = late.line()["error"]
                assert error["kind"] == "missing"
                who = f"in use by {holder.hello['user']} (pid {holder.process.pid}) since 2"
                assert who in error["message"]
            assert (holder.hello["user"] == "root") != (late.hello["user"] == "root")


def test_what_somebody_left_in_a_lock_is_only_told() -> None:
    assert in_use('{"user": "\\u001b[31mred", "pid": 7, "from": null}') == (
        "it is in use by [31mred (pid 7) since ?, from None"
    )
    assert in_use(str(os.getpid())).startswith(f"it is in use by pid {os.getpid()} of ")
    for text in ("", "x", "[]", "{", '"x"', "[" * 4096):
        assert in_use(text) == "it is in use"


def test_what_is_no_lock_is_left_alone(tmp_path: Path) -> None:
    own, path = tmp_path / "own", tmp_path / "edgedeploy.lock"
    own.write_text("mine")
    os.link(own, path)
    with pytest.raises(Refused, match="is no lock"):
        opened(str(path))
    path.unlink()
    path.symlink_to(own)
    with pytest.raises(OSError, match="symbolic links"):
        opened(str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Refused, match="is no lock"):
        opened(str(path))
    assert own.read_text() == "mine"


def test_a_lock_given_back_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edgedeploy.lock"
    path.touch()
    real = os.access

    def access(*arguments: Any) -> bool:
        found = real(*arguments)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "access", access)
    number = opened(str(path))
    assert os.fstat(number).st_ino == path.stat().st_ino
    os.close(number)


def test_paths_that_lead_out_are_refused(tmp_path: Path) -> None:
    with FarEnd(tmp_path / "far", "keep") as far:
        far.line()
        for path in ("../x", "/etc/x", "a/../../x", "", "a//b", "."):
            far.ask("tree", files=[[path, "0" * 64, 1]], strict=True)
            assert "is no path below a folder" in far.line()["error"]["message"]


def _children(pid: int) -> list[int]:
    import psutil

    return [each.pid for each in psutil.Process(pid).children()]
