"""Docker and Podman: what they may refuse is told with the remedy, and the real client asked."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_engine import IMAGE, FakeEngine, installed, written_program

from edgedeploy import container, container_engine
from edgedeploy.container import choose, image_of
from edgedeploy.errors import EdgeDeployError, InputError, MissingError


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return installed(tmp_path, monkeypatch)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return written_program(tmp_path)


SOCKET = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("what", "said", "message", "remedy"),
    [
        (
            "image",
            f"Cannot connect to the Docker daemon at {SOCKET}. Is the docker daemon running?",
            "the daemon of docker does not answer: Cannot connect",
            "sudo systemctl start docker",
        ),
        (
            "image",
            f"failed to connect to the docker API at {SOCKET}; check if the path is correct",
            "the daemon of docker does not answer: failed to connect",
            "sudo systemctl start docker",
        ),
        (
            "image",
            f"permission denied while trying to connect to the Docker daemon socket at {SOCKET}:"
            ' Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.50/info": dial unix: connect: permission',
            "this user may not use docker: permission denied",
            "sudo usermod -aG docker $USER",
        ),
        (
            "run",
            "docker: Error response from daemon: Mounts denied: The path /x is not shared",
            f"docker gives no container of {IMAGE}: docker: Error response from daemon: Mounts",
            "unset EDGEDEPLOY_CONTAINER_VENDOR",
        ),
        (
            "run",
            "exec /usr/bin/python3: exec format error",
            f"{IMAGE} is for another processor than this host's: exec",
            "Take the vendor's image for this host",
        ),
    ],
)
def test_an_engine_that_refuses(
    engine: FakeEngine, program: Path, *, what: str, said: str, message: str, remedy: str
) -> None:
    engine.refuses(what, f"{said}\n\nRun 'docker run --help' for more information", 125)
    with pytest.raises(MissingError) as caught:
        choose(program)
    assert caught.value.message.startswith(message)
    assert "--help" not in caught.value.message
    assert remedy in caught.value.hint
    assert caught.value.exit_code == 3


def test_no_engine_and_no_image(
    engine: FakeEngine, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_PROGRAM", "nerdctl")
    with pytest.raises(MissingError, match="there is no 'nerdctl', which EDGEDEPLOY_CONTAINER_PRO"):
        choose(program)
    monkeypatch.delenv("EDGEDEPLOY_CONTAINER_PROGRAM")
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR", "vendor/sdk:2")
    with pytest.raises(
        MissingError, match=r"there is no image vendor/sdk:2: .*No such image"
    ) as no:
        choose(program)
    assert "nothing is downloaded unasked" in no.value.hint
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR", "--privileged")
    with pytest.raises(InputError, match="VENDOR is '--privileged', expected the name of an image"):
        choose(program)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR", IMAGE)
    with pytest.raises(MissingError, match="there is neither docker nor podman") as no:
        choose(program)
    assert "name a Python instead" in no.value.hint


@pytest.mark.parametrize(
    ("script", "kind", "said", "remedy"),
    [
        (None, MissingError, "does not run: .*No such file", "EDGEDEPLOY_CONTAINER_PYTHON"),
        ("exit 3", MissingError, "does not run: exit code 3", "EDGEDEPLOY_CONTAINER_PYTHON"),
        ("echo hello", InputError, "is no Python: it said 'hello", "EDGEDEPLOY_CONTAINER_PYTHON"),
        ("echo '{}'", InputError, "is no Python", "EDGEDEPLOY_CONTAINER_PYTHON"),
        ({"python": "3.6.9"}, MissingError, "is Python 3.6.9, expected 3.8", "_CONTAINER_PYTHON"),
        ({"unseen": ["/a"]}, MissingError, "does not see /a of this host", "TMPDIR"),
        ({"unwritable": ["/b"]}, MissingError, "may not write into /b", "must own it"),
    ],
)
def test_a_container_that_cannot_serve(
    engine: FakeEngine,
    program: Path,
    tmp_path: Path,
    *,
    script: str | dict[str, Any] | None,
    kind: type[EdgeDeployError],
    said: str,
    remedy: str,
) -> None:
    python = tmp_path / "python"
    if isinstance(script, dict):
        answer = {"python": "3.10.1", "versions": {}, "unseen": [], "unwritable": [], **script}
        script = f"echo '{json.dumps(answer)}'"
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    pythons = {"python3": str(python)} if script else {}
    engine.has({IMAGE: {"id": "sha256:" + "1" * 64, "pythons": pythons}})
    with pytest.raises(kind, match=said) as caught:
        choose(program)
    assert remedy in caught.value.hint
    assert engine.none_left()


def test_an_engine_that_does_not_answer(
    engine: FakeEngine, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_engine, "ASK_TIMEOUT_S", 0.01)
    with pytest.raises(MissingError, match=r"vendor/sdk:1 gave no answer in 0\.01 s") as caught:
        choose(program)
    assert "`docker info`" in caught.value.hint


@pytest.mark.parametrize(
    ("version", "security", "user", "flags"),
    [
        ("Docker version 28.2.2", [], 1000, ("--user", "1000:100")),
        ("Docker version 28.2.2", ["name=seccomp", "name=rootless"], 1000, ("--user", "0:0")),
        (
            "Docker version 28.2.2",
            ["name=userns"],
            1000,
            ("--userns", "host", "--user", "1000:100"),
        ),
        ("Docker version 28.2.2", ["name=rootless"], 0, ("--user", "0:100")),
        ("podman version 4.3.1", [], 1000, ("--userns", "keep-id", "--user", "1000:100")),
        ("podman version 4.3.1", [], 0, ("--user", "0:100")),
    ],
)
def test_files_made_inside_belong_to_who_asked(
    engine: FakeEngine,
    program: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: str,
    security: list[str],
    user: int,
    flags: tuple[str, ...],
) -> None:
    engine.is_named(version)
    engine.secured_by(security)
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    named = image_of(program)
    assert named is not None
    found = container_engine.found_engine(named)
    assert (found.name, found.flags) == (version.split(maxsplit=1)[0].lower(), flags)


@pytest.fixture
def real_client() -> str:
    path = shutil.which("docker")
    if path is None:
        pytest.skip("no docker client is on this machine")
    return path


def test_the_real_client_takes_every_flag(
    real_client: str, engine: FakeEngine, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/socket")
    found = container_engine.Engine(
        path=real_client, name="docker", flags=("--userns", "host", "--user", "1:1")
    )
    command = container._run_command(found, "name", IMAGE, container._mounts(program), "/home")
    done = subprocess.run([*command, "-c", ""], check=False, capture_output=True, text=True)
    assert done.returncode == 125
    assert "connect to the docker" in done.stderr.lower()
