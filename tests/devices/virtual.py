"""Stand-ins for a virtual board's parts: a firmware folder, its compiler, an emulator."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedeploy.records import Target

FAKE_QEMU = Path(__file__).with_name("fake_qemu.py")
MAKEFILE = """
CC := {compiler}
PACKAGES := gcc-for-fakes libc-for-fakes
$(BUILD)/firmware.elf: ports/$(PORT)/main.c core/a.h
\t$(CC) ports/$(PORT)/main.c $@
"""
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "fakecc ${FAKECC_VERSION:-1.0}"; exit 0; fi
echo called >> "$FAKECC_CALLS"
if grep -q BROKEN "$1"; then echo "$1:1: error: it is BROKEN" >&2; exit 1; fi
cp "$1" "$2"
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def firmware_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A firmware folder of the user's own with one port, `tiny`, and its compiler on PATH."""
    firmware = folder / "own" / "firmware"
    (firmware / "ports" / "tiny").mkdir(parents=True)
    (firmware / "core").mkdir()
    (firmware / "core" / "a.h").write_text("/* a header */\n")
    (firmware / "ports" / "tiny" / "main.c").write_text("int main;\n")
    (firmware / "Makefile").write_text(MAKEFILE.format(compiler="fakecc"))
    program(folder / "bin" / "fakecc", COMPILER)
    program(
        folder / "bin" / "qemu-system-fake",
        f'#!/bin/sh\nexec "{sys.executable}" -I "{FAKE_QEMU}" "$@"\n',
    )
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder / "own"))
    monkeypatch.setenv("FAKECC_CALLS", str(folder / "calls"))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return firmware


def virtual_target(machine: str = "good", **options: Any) -> Target:
    table = {
        "program": "qemu-system-fake",
        "arguments": ["-M", machine],
        "firmware": "tiny",
        "model_address": 0x6100_0000,
        "model_bytes": 4096,
        "start_timeout_s": 10.0,
        **options,
    }
    return Target(
        name="virtual",
        board="a virtual board",
        transport="qemu",
        compiler="none",
        profiler="none",
        device_options={"qemu": table},
    )
