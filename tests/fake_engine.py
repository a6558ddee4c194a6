"""What the stand-in of a container engine has and refuses, and a program to serve in it."""

import json
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from edgedeploy import container_engine

IMAGE = "vendor/sdk:1"
PROGRAM = '''
# /// script
# dependencies = ["numpy", "surely-not-installed"]
# ///
"""A compiler that shows where it runs."""

import os
import re
import time


class Missing(Exception):
    hint = "Buy one."


def probe():
    return {"tools": {"vendor": "1"}}


def where():
    with open("log.txt", "w") as file:
        file.write("a toolchain writes where it stands")
    return {"folder": os.getcwd(), "environment": dict(os.environ), "user": os.getuid()}


def read(path, options=None):
    with open(path) as file:
        return {"text": file.read()}


def write(path):
    with open(path, "w") as file:
        file.write("written")
    return {}


def hold():
    re.match("(a+)+$", "a" * 64 + "b")  # no other thread of this Python runs meanwhile


def sleep():
    time.sleep(100)


def lacking():
    import surely_not_installed


def unlicensed():
    raise Missing("no licence")


def killed(number):
    os.kill(os.getpid(), number)
'''


class FakeEngine:
    """What the stand-in is to have and to refuse, and what it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has({IMAGE: {"id": "sha256:" + "1" * 64}})
        self.is_named("Docker version 28.2.2, build stand-in")
        self.secured_by([])

    def has(self, images: dict[str, Any]) -> None:
        plain = {"env": {"PATH": "/usr/bin:/bin"}, "pythons": {"python3": sys.executable}}
        found = {name: {**plain, **each} for name, each in images.items()}
        (self.folder / "images.json").write_text(json.dumps(found))

    def refuses(self, what: str, said: str, code: int) -> None:
        (self.folder / "refuses.json").write_text(json.dumps({what: [said, code]}))

    def is_named(self, text: str) -> None:
        container_engine._described.cache_clear()
        (self.folder / "version").write_text(text)

    def secured_by(self, names: list[str]) -> None:
        container_engine._described.cache_clear()
        (self.folder / "security.json").write_text(json.dumps(names))

    def running(self) -> list[str]:
        return sorted(each.name for each in self.folder.glob("containers/*"))

    def none_left(self, within_s: float = 3.0) -> bool:
        end = time.monotonic() + within_s
        while self.running() and time.monotonic() < end:
            time.sleep(0.02)
        return not self.running()

    def ran(self) -> list[Any]:
        path = self.folder / "ran.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A `docker` on PATH, one image, and EDGEDEPLOY_CONTAINER_VENDOR naming it."""
    programs, state = folder / "bin", folder / "state"
    programs.mkdir()
    state.mkdir()
    script = f"exec {sys.executable} {Path(__file__).with_name('fake_docker.py')} {state}"
    for name in container_engine.ENGINES:
        (programs / name).write_text(f'#!/bin/sh\n{script} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR", IMAGE)
    # a folder for temporary files of its own, so that the test's files are not all below it
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    (folder / "tmp").mkdir()
    return FakeEngine(state)


def written_program(folder: Path) -> Path:
    """PROGRAM as the compiler `vendor` of folders of the user's own."""
    path = folder / "own" / "compilers" / "vendor.py"
    path.parent.mkdir(parents=True)
    path.write_text(textwrap.dedent(PROGRAM).lstrip())
    return path
