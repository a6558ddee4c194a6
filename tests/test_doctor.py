"""The doctor: what is there with its version, what is not with its reason and its remedy."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedeploy.doctor import ProgramCheck, check, examine

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
