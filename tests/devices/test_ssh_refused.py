"""Hosts that do not let us in, are not there or lack a Python: each is named, with a remedy."""

import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import sshd as servers
from sshd import FarHost, free_port

from edgedeploy.devices import open_device
from edgedeploy.devices.ssh import SshDevice
from edgedeploy.devices.ssh_errors import refused
from edgedeploy.devices.ssh_link import ssh_command
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, InputError, MissingError
from edgedeploy.records import Target
from edgedeploy.target import load_targets

sshd, far_host = servers.sshd, servers.far_host

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def refusal(far_host: FarHost, **options: Any) -> EdgeDeployError:
    with pytest.raises(EdgeDeployError) as caught:
        SshDevice(far_host.target(**options)).check()
    return caught.value


def pythons(version: str) -> list[str]:
    """The Pythons of a version that start here."""
    found = [str(path) for path in PYENV.glob(f"versions/{version}.*/bin/python{version[0]}")]
    return [*found, *filter(None, [shutil.which(f"python{version}")])]


def test_without_a_host() -> None:
    target = Target("my-board", "a board", "ssh", "ort", "ort")
    device = open_device(target)
    for ask in (device.check, device.identity, device.__enter__):
        with pytest.raises(MissingError) as caught:
            ask()
        assert "target my-board is on another host, and none is named" in caught.value.message
        assert "EDGEDEPLOY_HOST_MY_BOARD=user@host" in caught.value.hint
        assert "devices.toml" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "-oProxyCommand=touch x"}, "host is '-oProxyCommand=touch x', expected user@h"),
        ({"host": "a b"}, "host is 'a b'"),
        ({"host": "a\nb"}, r"host is 'a\\nb'"),
        ({"host": "$(touch x)"}, "host is "),
        ({"host": "user@-x"}, "host is "),
        ({"python": "-c"}, "python is '-c', expected a command or a path without blanks"),
        ({"python": "python3; touch x"}, "python is "),
        ({"python": "`touch x`"}, "python is "),
        ({"python": ""}, "python is "),
        ({"silence_s": 0.0}, "silence_s is 0.0, expected seconds"),
        ({"silence_s": float("nan")}, "silence_s is nan"),
        ({"hosts": "x"}, "unknown field `hosts`"),
    ],
)
def test_options_that_no_ssh_is_called_with(options: dict[str, Any], message: str) -> None:
    target = Target(
        "my-board", "a board", "ssh", "ort", "ort", device_options={"ssh": {"host": "x", **options}}
    )
    with pytest.raises(InputError, match=message) as caught:
        SshDevice(target)
    assert "my-board" in caught.value.message
    assert caught.value.hint


def test_what_a_shell_over_there_sees_is_fixed(far_host: FarHost) -> None:
    command = ssh_command(SshDevice(far_host.target())._options)
    assert command[-3:-1] == ["--", "far"]
    assert command[-1] == (
        f"exec {sys.executable} -I -c 'import os,base64;"
        'exec(base64.b64decode(os.fdopen(0,"rb",0,closefd=False).readline()))\''
    )
    assert command[:2] == ["ssh", "-F"]
    assert {"BatchMode=yes", "ServerAliveInterval=15", "ControlMaster=no"} <= set(command)


def test_a_host_whose_key_is_not_known(far_host: FarHost) -> None:
    far_host.through(key="")
    error = refusal(far_host)
    assert type(error) is MissingError
    assert "the host key of far is not known: Host key verification failed" in error.message
    assert "fingerprint: ssh far" in error.hint
    far_host.through(key="other_key")
    error = refusal(far_host)
    assert type(error) is MissingError
    assert "the host key of far is another than the one known: " in error.message
    assert "Find out why" in error.hint
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in error.log


def test_a_host_that_lets_nobody_in(far_host: FarHost) -> None:
    far_host.through(IdentityFile=str(far_host.sshd.folder / "other_key"))
    error = refusal(far_host)
    assert type(error) is MissingError
    assert "far does not let you in: " in error.message
    assert "Permission denied (publickey" in error.message
    assert "ssh-copy-id far" in error.hint


def test_a_host_that_is_not_there(far_host: FarHost, monkeypatch: pytest.MonkeyPatch) -> None:
    far_host.through(free_port())
    error = refusal(far_host)
    assert type(error) is MissingError
    assert "far has no ssh server running: ssh: connect to host 127.0.0.1 port" in error.message
    # where it answered before, it was lost
    far_host.through(**far_host.sshd.share())
    SshDevice(far_host.target()).check()
    far_host.through(free_port())
    assert type(refusal(far_host)) is ConnectionLostError
    # the name that a user gives
    monkeypatch.setenv("EDGEDEPLOY_SSH", "ssh -F /dev/null")
    monkeypatch.setenv("EDGEDEPLOY_HOST_HOST", "nobody@no-such-host.invalid")
    (target,) = load_targets("host")
    with pytest.raises(MissingError) as caught:
        open_device(target).check()
    assert "the name of nobody@no-such-host.invalid is not known: ssh: Could not" in (
        caught.value.message
    )
    assert "Correct EDGEDEPLOY_HOST_HOST or devices.toml" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "said", "kind", "message"),
    [
        (255, "ssh: connect to host x port 22: Connection timed out", "lost", "cannot be reached"),
        (255, "ssh: connect to host x port 22: No route to host", "lost", "cannot be reached"),
        (255, "Connection timed out during banner exchange", "lost", "cannot be reached"),
        (255, "kex_exchange_identification: read: Connection reset by peer", "lost", "closed the"),
        (255, "", "lost", "ended before anything was said: it says nothing"),
        (255, "f: line 1: Bad configuration option: x", "missing", "refuses its configuration"),
        (127, "exec: pythn: not found", "missing", "no Python can be started as python3 on x: e"),
        (126, "exec: /etc/hosts: Permission denied", "missing", "no Python can be started as"),
        (2, "Unknown option: -I\nusage: ...", "missing", "is older than Python 3.8: Unknown"),
        (1, "no login\n", "missing", "ended with exit code 1 before it was asked anything: no l"),
    ],
)
def test_how_a_session_fails_to_begin(code: int, said: str, kind: str, message: str) -> None:
    error = refused("x", "python3", "EDGEDEPLOY_HOST_X", code, said)
    assert message in error.message
    assert type(error) is {"lost": ConnectionLostError, "missing": MissingError}[kind]
    assert error.hint
    assert error.log == said


def test_a_host_without_that_python(far_host: FarHost, tmp_path: Path) -> None:
    error = refusal(far_host, python="no-such-python")
    assert type(error) is MissingError
    assert "no Python can be started as no-such-python on far: " in error.message
    assert "python = " in error.hint
    script = tmp_path / "python"
    script.write_text("")
    script.chmod(0o600)
    assert "no Python can be started" in refusal(far_host, python=str(script)).message
    script.write_text("#!/bin/sh\necho 'Unknown option: -I' >&2\nexit 2\n")
    script.chmod(stat.S_IRWXU)
    error = refusal(far_host, python=str(script))
    assert f"{script} on far is older than Python 3.8: Unknown option: -I" in error.message


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_a_python_that_is_too_old(far_host: FarHost, version: str) -> None:
    found = pythons(version)
    if not found:
        pytest.skip(f"there is no Python {version} here")
    error = refusal(far_host, python=found[0])
    assert type(error) is MissingError
    assert f"{found[0]} on far is " in error.message
    assert ("older than Python 3.8" if version < "3" else f"Python {version}.") in error.message


@pytest.mark.parametrize("said", ["{", "[]", '{"hello": {"pid": "x"}}', "{}", "[" * 9999])
def test_what_answers_is_no_far_end(far_host: FarHost, tmp_path: Path, said: str) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nprintf '\\030%s\\n' '{said}'\nexec cat > /dev/null\n")
    script.chmod(stat.S_IRWXU)
    error = refusal(far_host, python=str(script))
    assert "which is no word of its far end" in error.message


def test_a_login_script_that_talks(far_host: FarHost, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nprintf 'Welcome!\\n\\nno end'\nexec {sys.executable} \"$@\"\n")
    script.chmod(stat.S_IRWXU)
    with SshDevice(far_host.target(python=str(script))) as device:
        assert device.put(script).endswith("/python")
    script.write_text("#!/bin/sh\nexec yes\n")
    error = refusal(far_host, python=str(script))
    assert type(error) is MissingError
    assert "far prints without end where an answer was expected" in error.message


def test_an_ssh_that_is_not_there(far_host: FarHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_SSH", "no-such-ssh -v")
    error = refusal(far_host)
    assert type(error) is MissingError
    assert "no-such-ssh is not there" in error.message
    monkeypatch.setenv("EDGEDEPLOY_SSH", "ssh 'half")
    assert type(refusal(far_host)) is InputError
