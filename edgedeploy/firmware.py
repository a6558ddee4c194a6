"""Firmware of a port, made on demand by its cross compiler and kept by the hash of its sources."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedeploy.cache import build
from edgedeploy.digest import bytes_sha256, file_sha256
from edgedeploy.errors import EdgeDeployError, InputError, MissingError, nearest
from edgedeploy.share import share_folders

BUILD_TIMEOUT_S = 900.0
LOG_TAIL = 4000
IMAGES = ("firmware.elf", "firmware")
# Not sources: what builds leave behind, what package managers fetch, what is for people.
_NOT_SOURCES = {"build", "managed_components", "__pycache__"}
# A make above this one, and a user's flags for programs of this host, are not for the board.
_NOT_FOR_BOARD = (
    *("MAKEFLAGS", "MFLAGS", "GNUMAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES"),
    *("CC", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "TARGET", "PORT", "BUILD"),
)
# Read after the Makefile: it says what only the Makefile knows.
_QUESTION = "edgedeploy-asks: ; @: $(info compiler=$(CC)) $(info packages=$(PACKAGES))\n"
# The Makefile itself may look for its compiler first: what it lacks, and behind ";" the remedy.
_REFUSED = re.compile(r"\*\*\* (?P<text>.* is not here\b.*?)\.?\s+Stop\.")


def build_firmware(port: str) -> Path:
    """The image of `firmware/ports/<port>`, made once for these sources and this compiler.

    Raises `InputError` for a port that is not there, `MissingError` naming the compiler that is
    absent and how to get it, `EdgeDeployError` with the compiler's last lines where it fails, and
    `StorageError` where the result cannot be kept.
    """
    folder = _folder_with(port)
    compiler, packages = _toolchain(folder, port)
    sources = _sources_sha256(folder)
    parts = {"sources": sources, "compiler": _version(compiler, packages), "command": compiler}

    def made(place: Path) -> dict[str, Any]:
        _make(folder, port, [f"-j{min(4, os.cpu_count() or 1)}", f"BUILD={place}"], f"build {port}")
        if _sources_sha256(folder) != sources:
            msg = f"the sources in {folder} were changed while {port} was being built"
            raise EdgeDeployError(msg, hint="Run it again.")
        image = next((place / name for name in IMAGES if (place / name).is_file()), None)
        if image is None:
            msg = f"the Makefile in {folder} made neither {' nor '.join(IMAGES)} for {port}"
            raise EdgeDeployError(msg, hint=f"`make -C {folder} PORT={port}` shows what it does.")
        return {"image": str(image)}

    return Path(build("firmware", port, parts, made).answer["image"])


def check_compiler(port: str) -> None:
    """Raise `MissingError` naming the cross compiler of a port, and how to get it, if absent."""
    _version(*_toolchain(_folder_with(port), port))


def _folder_with(port: str) -> Path:
    known: list[str] = []
    for folder in share_folders("firmware"):
        ports = [path.name for path in sorted(folder.glob("ports/*")) if path.is_dir()]
        if port in ports and (folder / "Makefile").is_file():
            return folder
        known += ports
    msg = f"firmware has no port {port!r}"
    raise InputError(msg, hint=nearest(port, known))


def _toolchain(folder: Path, port: str) -> tuple[str, str]:
    """The compiler's command and the Debian packages that have it, as the Makefile names them."""
    more = ["-s", "-f", "Makefile", "-f", "-", "edgedeploy-asks"]
    try:
        said = _make(folder, port, more, f"ask for the compiler of {port}", text=_QUESTION)
    except EdgeDeployError as err:
        refused = _REFUSED.search(err.log)
        if refused is None:
            raise
        message, _, remedy = refused["text"].partition(";")
        raise MissingError(message.strip(), hint=remedy.strip(), log=err.log) from err
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return found.get("compiler", "cc").strip(), found.get("packages", "").strip()


def _version(compiler: str, packages: str) -> str:
    program = compiler.split(maxsplit=1)[0] if compiler else ""
    hint = "`make toolchain` installs it"
    hint += f" (apt-get install {packages})." if packages else "."
    if not program or shutil.which(program) is None:
        msg = f"the cross compiler {program} is not on PATH"
        raise MissingError(msg, hint=hint)
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    if done.returncode:
        msg = f"{program} --version ended with exit code {done.returncode}"
        raise MissingError(msg, hint=hint, log=_tail(done.stdout + done.stderr))
    return done.stdout.strip()


def _make(folder: Path, port: str, more: Sequence[str], what: str, *, text: str = "") -> str:
    """Run make in `folder`; its stdout."""
    make = shutil.which("gmake") or shutil.which("make")
    if make is None:
        msg = "make is not on PATH, and firmware is built with it"
        raise MissingError(msg, hint="apt-get install make")
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_BOARD}
    environment["LC_ALL"] = "C"
    try:
        done = subprocess.run(
            [make, "--no-print-directory", "-C", str(folder), f"PORT={port}", *more],
            check=False,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            timeout=BUILD_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as err:
        msg = f"make did not {what} within {BUILD_TIMEOUT_S:g} s"
        raise EdgeDeployError(msg, hint="Is the machine overloaded? Run it again.") from err
    if done.returncode:
        msg = f"make could not {what}: exit code {done.returncode}"
        hint = f"The log has the compiler's last lines; `make -C {folder} PORT={port}` repeats it."
        raise EdgeDeployError(msg, hint=hint, log=_tail(done.stdout))
    return done.stdout


def _sources_sha256(folder: Path) -> str:
    """One hash over names and contents of all files from which firmware is made."""
    lines = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in _NOT_SOURCES for part in parts)
        if hidden or path.suffix == ".md" or not path.is_file():
            continue
        lines.append(f"{'/'.join(parts)}\0{file_sha256(path)}\n")
    return bytes_sha256("".join(lines).encode())


def _tail(text: str) -> str:
    return text.strip()[-LOG_TAIL:]
