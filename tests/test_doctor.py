"""The doctor: what is there with its version, what is not with its reason and its remedy."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sshd as servers
from sshd import FarHost, free_port

from edgedeploy.devices import open_device
from edgedeploy.devices.local import LocalDevice
from edgedeploy.doctor import Diagnosis, ProgramCheck, TargetCheck, check, examine
from edgedeploy.errors import ConnectionLostError, EdgeDeployError, InputError, MissingError
from edgedeploy.records import Target
from edgedeploy.show import diagnosis_table
from edgedeploy.target import load_targets
from edgedeploy.worker import Worker

sshd, far_host = servers.sshd, servers.far_host
Write = Callable[..., Path]
GOOD = """
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
def probe():
    print("noise")
    return {"tools": {"vendor": "2.1"}}
"""
NOT_HERE = """
    if "ON_THIS_HOST" in os.environ:
        raise RuntimeError("no vendor's library")
"""


def checked(write: Write, text: str, name: str = "vendor.py") -> ProgramCheck:
    return check("compiler", write(name, text))


def test_found(write: Write) -> None:
    found = checked(write, GOOD)
    assert found.found
    assert (found.versions, found.reason, found.remedy) == ({"vendor": "2.1"}, "", "")
    assert (found.interpreter, found.interpreter_kind) == (sys.executable, "current")
    assert found.interpreter_why == "its packages satisfy the header"


@pytest.mark.parametrize(
    ("text", "reason", "remedy"),
    [
        ("import a_vendor_sdk\ndef probe(): return {}", "No module named 'a_vendor_sdk'", "VENDOR"),
        (
            "class Missing(Exception):\n    hint = 'Plug it in.'\n"
            "def probe(): raise Missing('no board on /dev/ttyACM0')",
            "no board on /dev/ttyACM0",
            "Plug it in.",
        ),
        ("def probe(: pass", "vendor: SyntaxError", "traceback"),
        ("x = 1", "has no function probe", "traceback"),
        ("import os\nos.abort()", "vendor was killed by SIGABRT during probe", "log"),
        (
            "# /// script\n# dependencies = ['surely-not-installed']\n# ///\n",
            "its environment is not made yet",
            "Deploy to a target that uses it, or set EDGEDEPLOY_PYTHON_VENDOR.",
        ),
        ("# /// script\n# dependencies = [\n# ///\n", "is not valid", "docs/programs.md"),
    ],
)
def test_not_found(write: Write, text: str, reason: str, remedy: str) -> None:
    found = checked(write, text)
    assert not found.found
    assert found.versions == {}
    assert reason in found.reason
    assert remedy in found.remedy


def test_a_probe_that_hangs_is_ended(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedeploy.doctor.PROBE_TIMEOUT_S", 0.5)
    found = checked(write, "import time\ndef probe(): time.sleep(60)")
    assert found.reason == "vendor gave no answer to probe within 0.5 s"


def test_a_named_python_that_is_none(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_PYTHON_VENDOR", "/no/python")
    found = checked(write, GOOD)
    assert found.interpreter_kind == "named"
    assert found.reason == "vendor cannot be started: No such file or directory: /no/python"
    assert found.remedy


def test_the_whole_examination(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("compilers/good.py", GOOD)
    write("profilers/runtime/good.py", GOOD)
    write("profilers/runtime/bad.py", "def probe(): raise RuntimeError('no driver')")
    write("profilers/instrument/meter.py", "import no_such_meter")
    form = 'board = "b"\ntransport = "local"\ncompiler = "good"\nprofiler = "{}"\n'
    write("targets/ready.toml", form.format("good") + 'quantizer = "good"\n')
    write("targets/lacking.toml", form.format("bad") + 'quantizer = "none"\n')
    write("targets/metered.toml", form.format("good") + 'instruments = ["meter", "nowhere"]\n')
    write("targets/wrong.toml", form.format("good") + "key = 1\n")
    monkeypatch.setattr("edgedeploy.share._HERE", tmp_path / "edgedeploy")
    found = examine()
    assert [(p.kind, p.name, p.found) for p in found.programs] == [
        ("compiler", "good", True),
        ("runtime", "bad", False),
        ("runtime", "good", True),
        ("instrument", "meter", False),
    ]
    targets = {target.name: target for target in found.targets}
    assert list(targets) == ["lacking", "metered", "ready", "wrong"]
    assert targets["ready"].ready
    assert targets["ready"].power == "none (no instrument named)"
    assert not targets["lacking"].ready
    assert targets["lacking"].lacks == (
        "runtime bad: bad: RuntimeError: no driver",
        "compiler none: there is no such program",
    )
    # an instrument that is not there takes the power figures, not the target
    assert targets["metered"].ready
    assert targets["metered"].power == (
        "none (meter: No module named 'no_such_meter'; nowhere: there is no such program)"
    )
    assert "unknown field `key`" in targets["wrong"].problem


class HostDevice:
    """A device behind ssh, played by this host: `names` of hosts that do not answer, or go away."""

    def __init__(
        self, target: Target, answers: dict[str, EdgeDeployError], said: list[str]
    ) -> None:
        self.host = target.device_options["ssh"]["host"]
        self.name, self.answers, self.said = target.name, answers, said

    def __enter__(self) -> "HostDevice":
        self.said.append(f"enter {self.name}")
        if f"enter {self.host}" in self.answers:
            raise self.answers[f"enter {self.host}"]
        return self

    def __exit__(self, *_: object) -> None:
        self.said.append(f"leave {self.name}")

    def check(self) -> None:
        if self.host in self.answers:
            time.sleep(1.0)  # as long as a host that does not answer is waited for
            raise self.answers[self.host]

    def worker(self, program: Path, *, timeout_s: float) -> Worker:
        self.said.append(f"{program.stem} on {self.host}")
        if f"{program.stem} on {self.host}" in self.answers:
            raise self.answers[f"{program.stem} on {self.host}"]
        return LocalDevice().worker(program, timeout_s=timeout_s)


def test_what_runs_beside_a_device_elsewhere_is_asked_there(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("compilers/good.py", GOOD)
    write("compilers/bad.py", "def probe(): raise RuntimeError('no licence')")
    write("profilers/runtime/good.py", GOOD)
    write(
        "profilers/runtime/bad.py",
        "class Missing(Exception):\n    hint = 'Load it.'\ndef probe(): raise Missing('no driver')",
    )
    write("profilers/instrument/meter.py", GOOD)
    form = (
        'board = "b"\ntransport = "ssh"\ncompiler = "{}"\nprofiler = "{}"\n'
        'instruments = ["meter", "none"]\n'
    )
    for name, compiler, profiler in (
        ("cut", "good", "good"),
        ("dead", "bad", "good"),
        ("dead-too", "good", "good"),
        ("fine", "good", "good"),
        ("nowhere", "good", "good"),
        ("taken", "good", "good"),
        ("without", "good", "bad"),
    ):
        write(f"targets/{name}.toml", form.format(compiler, profiler))
    entry = '[[device]]\nname = "{0}"\nhost = "{1}"\ntarget = "{2}"\n{3}'
    entries = [
        ("first", "pi", "fine", 'python = "/opt/python"'),
        ("second", "pi", "fine", ""),
        ("third", "pi", "without", ""),
        ("fourth", "dead", "dead", ""),
        ("fifth", "dead", "dead-too", ""),
        ("sixth", "cut", "cut", ""),
        ("seventh", "taken", "taken", ""),
    ]
    inventory = write("devices.toml", "\n".join(entry.format(*each) for each in entries))
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(inventory))
    monkeypatch.setattr("edgedeploy.share._HERE", tmp_path / "edgedeploy")
    refused = MissingError("dead: Connection refused", hint="Is it on?")
    answers: dict[str, EdgeDeployError] = {
        "dead": refused,
        "good on cut": ConnectionLostError("cut went away", hint="Deploy again."),
        "enter taken": MissingError("taken is in use by somebody@bench", hint="Wait for it."),
    }
    said: list[str] = []
    monkeypatch.setattr(
        "edgedeploy.doctor.open_device", lambda target: HostDevice(target, answers, said)
    )
    start = time.monotonic()
    found = examine()
    assert time.monotonic() - start < 2.0 + 1.0  # the two on a dead host are waited for together
    targets = {target.name: target for target in found.targets}
    assert list(targets) == [
        "cut",
        "dead",
        "dead-too",
        "fine@first",
        "fine@second",
        "nowhere",
        "taken",
        "without",
    ]
    assert {name for name, target in targets.items() if target.ready} == {
        "fine@first",
        "fine@second",
    }
    assert targets["fine@first"].host == "pi"
    assert targets["fine@first"].power == "meter"
    lacks = {name: target.lacks for name, target in targets.items() if target.lacks}
    lost = "device: dead: Connection refused. Is it on?"
    assert lacks == {
        "cut": ("device: cut went away. Deploy again.",),
        "dead": ("compiler bad: bad: RuntimeError: no licence", lost),
        "dead-too": (lost,),
        "nowhere": (
            "a host: Set EDGEDEPLOY_HOST_NOWHERE=user@host, or name a device of it in"
            " devices.toml (docs/devices.md).",
        ),
        "taken": ("device: taken is in use by somebody@bench. Wait for it.",),
        "without": ("runtime bad on pi: no driver",),
    }
    assert targets["dead"].power == targets["nowhere"].power == "not known"
    assert targets["without"].power == "meter"
    # those of one host one after the other, and none of a host that is not there
    on_pi = [each for each in said if each.split()[-1] in {"pi", "fine@first", "fine@second"}]
    once = ["good on pi", "meter on pi"]
    first, second = "fine@first", "fine@second"
    assert on_pi[:8] == [
        *(f"enter {first}", *once, f"leave {first}"),
        *(f"enter {second}", *once, f"leave {second}"),
    ]
    assert not any("dead" in each for each in said)
    remote = [(p.host, p.kind, p.name, p.interpreter, p.found) for p in found.programs if p.host]
    assert remote == [
        ("pi", "runtime", "good", "/opt/python", True),
        ("pi", "instrument", "meter", "/opt/python", True),
        ("pi", "runtime", "good", "python3", True),
        ("pi", "instrument", "meter", "python3", True),
        ("pi", "runtime", "bad", "python3", False),
    ]
    last = found.programs[-1]
    assert (last.reason, last.remedy, last.interpreter_kind) == ("no driver", "Load it.", "remote")
    assert last.interpreter_why == "python3 on pi"


def test_a_wrong_inventory_ends_the_examination(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(write("devices.toml", "[[devise]]")))
    with pytest.raises(InputError, match="unknown field `devise`"):
        examine()


def test_a_wrong_variable_is_a_problem_of_its_target(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("targets/mine.toml", 'board="b"\ntransport="local"\ncompiler="c"\nprofiler="p"\n')
    monkeypatch.setattr("edgedeploy.share._HERE", tmp_path / "edgedeploy")
    monkeypatch.setenv("EDGEDEPLOY_HOST_MINE", "-x")
    (found,) = examine().targets
    assert not found.ready
    assert found.problem.startswith("EDGEDEPLOY_HOST_MINE: host is '-x', expected user@host")


def test_over_a_real_link(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far_host: FarHost
) -> None:
    write("compilers/good.py", GOOD)
    write("profilers/runtime/good.py", GOOD)
    write("profilers/runtime/absent.py", "import a_vendor_runtime\ndef probe(): return {}")
    write("profilers/instrument/meter.py", "def probe(): return {'tools': {'meter': '3'}}")
    form = 'board="b"\ntransport="local"\ncompiler="good"\nprofiler="{}"\ninstruments=["meter"]\n'
    write("targets/one.toml", form.format("good"))
    write("targets/two.toml", form.format("absent"))
    write("targets/old.toml", form.format("good"))
    # a compiler that is on the device's host alone
    write("compilers/beside.py", "import os\n" + GOOD.replace('    print("noise")', NOT_HERE))
    built = form.format("good").replace('compiler="good"', 'compiler="beside"')
    write("targets/built.toml", built + 'compile_on = "device"\n')
    monkeypatch.setenv("ON_THIS_HOST", "1")
    monkeypatch.setattr("edgedeploy.share._HERE", tmp_path / "edgedeploy")
    there = f'python = "{sys.executable}"\nfolder = "{far_host.folder}"\n'
    entries = [
        f'[[device]]\nname = "{target}-far"\nhost = "far"\ntarget = "{target}"\n{more}'
        for target, more in (
            *(("one", there), ("two", there), ("built", there)),
            ("old", 'python = "no-python"\n'),
        )
    ]
    monkeypatch.setenv("EDGEDEPLOY_DEVICES", str(write("devices.toml", "\n".join(entries))))
    # a run that measures there keeps nobody from asking
    with open_device(load_targets("one")[0]):
        found = examine()
    targets = {target.name: target for target in found.targets}
    assert (targets["one"].ready, targets["one"].power, targets["one"].host) == (
        True,
        "meter",
        "far",
    )
    assert targets["two"].lacks == ("runtime absent on far: No module named 'a_vendor_runtime'",)
    assert (targets["built"].ready, targets["built"].lacks) == (True, ())
    (old,) = targets["old"].lacks
    assert old.startswith("device: no Python can be started as no-python on far: ")
    assert old.endswith("Name one in devices.toml: python = ..., or install it over there.")
    remote = {p.name: p for p in found.programs if p.host}
    assert (remote["beside"].kind, remote["beside"].found) == ("compiler", True)
    assert remote["good"].versions == {"vendor": "2.1"}
    assert remote["good"].interpreter == sys.executable
    assert "far" in remote["absent"].remedy
    # nobody is there any more
    far_host.through(port=free_port())
    monkeypatch.setenv("EDGEDEPLOY_HOST_ONE", "far")
    lost = {target.name: target.lacks for target in examine().targets}
    assert "Connection refused" in lost["one"][0]
    assert "Start it over there" in lost["two"][0]


def test_a_compiler_in_a_container(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR", "vendor/sdk:1")
    monkeypatch.setenv("PATH", str(tmp_path))  # no engine is there
    found = check("compiler", write("compilers/vendor.py", GOOD))
    assert (found.interpreter_kind, found.interpreter) == ("container", "vendor/sdk:1")
    assert found.interpreter_why == "named in EDGEDEPLOY_CONTAINER_VENDOR"
    assert not found.found
    assert found.reason
    assert found.remedy
    # what runs beside a device is not in the toolchain's image
    assert check("runtime", write("profilers/runtime/vendor.py", GOOD)).found


def test_what_hosts_say_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    target = TargetCheck(
        name="x", board="x", ready=False, lacks=(), power="", problem="\x1b[2J no [/x] there"
    )
    diagnosis_table(Diagnosis(targets=(target,), programs=()))
    assert "\ufffd[2J no [/x] there" in " ".join(capsys.readouterr().out.split())
