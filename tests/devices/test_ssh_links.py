"""Links over ssh that are cut, stall, crawl or are killed: named, nothing wrong, nothing left."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sshd as servers
from misbehaving import appears, gone
from rough_link import RoughLink
from sshd import FarHost

from edgedeploy.devices.ssh import RemoteWorker, SshDevice
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, MissingError

sshd, far_host = servers.sshd, servers.far_host

PROGRAM = """
import hashlib, os, subprocess, sys, time

def works(source, target, path):
    subprocess.Popen(["sleep", "61.{token}"])
    subprocess.Popen(["sleep", "61.{token}"], start_new_session=True)
    with open(source, "rb") as given:
        found = given.read()
    time.sleep(0.05)
    with open(target, "wb") as wanted:
        wanted.write(found[::-1])
    return {"sha256": hashlib.sha256(found).hexdigest()}

def waits(path):
    daemon = "import subprocess; subprocess.Popen(['sleep', '61.{token}'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", daemon])
    child = subprocess.Popen(["sleep", "61.{token}"], start_new_session=True)
    with open(path + ".part", "w") as file:
        file.write("%d %d %d" % (os.getppid(), os.getpid(), child.pid))
    os.rename(path + ".part", path)
    time.sleep(60)
"""


def program(far_host: FarHost, tmp_path: Path) -> Path:
    path = tmp_path / f"program-{far_host.token}.py"
    path.write_text(PROGRAM.replace("{token}", str(int(far_host.token, 16))))
    return path


def left(far_host: FarHost) -> list[list[str]]:
    """Command lines of what still runs there for this test."""
    tokens = (far_host.token, str(int(far_host.token, 16)))
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        running = process.info["status"] != psutil.STATUS_ZOMBIE
        if running and process.pid != os.getpid() and any(t in " ".join(line) for t in tokens):
            found.append(line)
    return found


def nothing_left(far_host: FarHost, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not left(far_host):
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def waiting(
    far_host: FarHost, tmp_path: Path, **options: object
) -> Iterator[tuple[RemoteWorker, Path]]:
    """A worker over there in a call that does not end, with children; and a file of its pids."""
    named = tmp_path / "pids"
    with (
        SshDevice(far_host.target(**options)) as device,
        device.worker(program(far_host, tmp_path)) as worker,
    ):
        worker.start("waits", path=str(named))
        appears(named)
        assert isinstance(worker, RemoteWorker)
        yield worker, named


@pytest.mark.parametrize("count", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_link_cut_at_any_moment(far_host: FarHost, tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    source = program(far_host, tmp_path)
    given, wanted = tmp_path / "given.npz", tmp_path / "wanted.npz"
    lost = []

    def attempt(content: bytes) -> None:
        given.write_bytes(content)
        wanted.unlink(missing_ok=True)
        with (
            SshDevice(far_host.target()) as device,
            device.worker(source) as worker,
            device.exchange(given, wanted) as (there, back),
        ):
            answer = worker.call("works", source=there, target=back, path="")
        assert wanted.read_bytes() == content[::-1]
        assert answer["sha256"]

    with RoughLink(far_host.sshd.port) as link:
        far_host.through(link.port)
        attempt(draw.randbytes(200_000))
        # without the program, which is there now
        before = link.sent + link.received
        attempt(draw.randbytes(200_000))
        whole = link.sent + link.received - before
        for _ in range(count):
            content = draw.randbytes(200_000)
            link.cut_after(draw.randrange(whole))
            try:
                attempt(content)
            except ConnectionLostError as err:
                lost.append(err.message)
                assert not wanted.exists()
            assert nothing_left(far_host)
            # and the next attempt succeeds, at once
            link.cut_after(1 << 40)
            attempt(content)
        assert nothing_left(far_host)
    assert len(lost) > count / 2
    assert not list(far_host.folder.glob("sessions/*"))
    assert not list(far_host.folder.glob("sessions/.*"))


def test_a_link_that_stalls_is_lost_on_both_sides(far_host: FarHost, tmp_path: Path) -> None:
    with RoughLink(far_host.sshd.port) as link:
        # this end's ssh is not the one that notices
        far_host.through(link.port)
        start = time.monotonic()
        with waiting(far_host, tmp_path, silence_s=1.0) as (worker, named):
            link.stall()
            with pytest.raises(ConnectionLostError) as caught:
                worker.finish()
        assert "the connection was lost during waits: " in caught.value.message
        assert re.search("; far (does not answer|cannot be reached): ", caught.value.message)
        assert time.monotonic() - start < 15
        # nobody told the far end: it noticed by itself
        for pid in map(int, named.read_text().split()):
            assert gone(pid, 6.0)
        assert nothing_left(far_host)
        link.heal()
        with SshDevice(far_host.target(silence_s=1.0)) as device:
            assert device.put(named)


def test_a_stalled_run_gives_way_to_the_next_of_its_process(
    far_host: FarHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedeploy.devices.ssh_link.LEAVE_S", 0.3)
    with RoughLink(far_host.sshd.port) as link:
        far_host.through(link.port)
        with contextlib.suppress(KeyError), waiting(far_host, tmp_path) as (_, named):
            link.stall()
            raise KeyError
        pids = [int(each) for each in named.read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        # the far end would wait for a minute; it is told by the next session, with the lock
        far_host.through(**far_host.sshd.share())
        with SshDevice(far_host.target()):
            assert all(gone(pid, 1.0) for pid in pids)
    assert nothing_left(far_host)


def test_a_slow_link(far_host: FarHost, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(random.Random(5).randbytes(60_000))
    with RoughLink(far_host.sshd.port, rate=100_000) as link:
        far_host.through(link.port)
        # the transfer takes longer than either end may be silent
        with SshDevice(far_host.target(silence_s=0.6)) as device:
            start = time.monotonic()
            assert Path(device.put(model)).read_bytes() == model.read_bytes()
            with device.exchange(model, tmp_path / "back") as (source, target):
                os.link(source, target)
            assert time.monotonic() - start > 1
    assert (tmp_path / "back").read_bytes() == model.read_bytes()


def test_a_host_that_is_silent_while_it_works_is_not_lost(
    far_host: FarHost, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ndef sleeps():\n    time.sleep(1.5)\n    return {}\n")
    with (
        SshDevice(far_host.target(silence_s=1.0)) as device,
        device.worker(slow) as worker,
    ):
        assert worker.call("sleeps") == {}
        assert device.put(slow)


@pytest.mark.parametrize("whom", ["ssh", "far end", "program", "keeper"])
def test_whoever_is_killed_nothing_is_left(far_host: FarHost, tmp_path: Path, whom: str) -> None:
    with waiting(far_host, tmp_path) as (worker, named):
        far, pid, _ = map(int, named.read_text().split())
        pids = {
            "ssh": worker._process.pid,
            "far end": far,
            "program": pid,
            "keeper": worker._device._entered().host.pid,
        }
        os.kill(pids[whom], signal.SIGKILL)
        with pytest.raises(EdgeDeployError) as caught:
            worker.finish(timeout_s=20)
    assert isinstance(caught.value, ConnectionLostError) == (whom != "program")
    assert {
        "ssh": "ssh was killed by signal 9; far itself is up",
        "far end": "ssh ended without a word; far itself is up",
        "program": "was killed by SIGKILL (the system does that when memory runs out)",
        "keeper": "the session that kept the device ended; far itself is up",
    }[whom] in caught.value.message
    assert nothing_left(far_host)


OWNER = """
import sys, time
from edgedeploy.devices.ssh import SshDevice
from edgedeploy.records import Target
from pathlib import Path

program, path, options = sys.argv[1:]
target = Target("my-board", "a board", "ssh", "ort", "ort", device_options={"ssh": eval(options)})
with SshDevice(target) as device, device.worker(Path(program)) as worker:
    worker.call("waits", path=path)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_orphan_of_a_run_that_was_killed(
    far_host: FarHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr("edgedeploy.devices.ssh_keep.LOCK_WAIT_S", 0.0)
    named = tmp_path / "pids"
    path = program(far_host, tmp_path)
    command = [sys.executable, "-c", OWNER, str(path), str(named), repr(far_host.options())]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as run:
        appears(named)
        with (
            pytest.raises(MissingError, match=r"in use by \w+ \(pid \d+\) since 20.* UTC, from "),
            SshDevice(far_host.target()),
        ):
            pass
        run.send_signal(number)
        run.wait(15)
    assert nothing_left(far_host)
    monkeypatch.setattr("edgedeploy.devices.ssh_keep.LOCK_WAIT_S", 2.0)
    with SshDevice(far_host.target()) as device:
        assert device.put(path)
    assert not list(far_host.folder.glob("sessions/*"))


def test_a_host_that_was_started_anew(far_host: FarHost, tmp_path: Path) -> None:
    with SshDevice(far_host.target()) as device:
        device._known.boot = "another"
        worker = device.worker(program(far_host, tmp_path))
        assert device.notes == ("far was started anew meanwhile",)
        os.kill(worker.host.pid, signal.SIGKILL)
        device._known.boot = "another"
        with worker, pytest.raises(ConnectionLostError, match="without a word; far was started"):
            worker.call("waits", path="")
