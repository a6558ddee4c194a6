"""Which Python runs a program: the one the user named, the current one if it fits, or its own."""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from edgedeploy.cache import cache_folder
from edgedeploy.errors import InputError, MissingError
from edgedeploy.records import Record

_BLOCK = re.compile(r"(?m)^# /// script\s*$\n(?P<body>(?:^#(?: .*)?$\n)+?)^# ///\s*$")
_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps({"python": sys.version.split()[0], "versions": found}))
"""


class Header(Record):
    """What a program says it needs (PEP 723)."""

    requires_python: str = ""
    dependencies: tuple[str, ...] = ()


class Interpreter(Record):
    """The Python chosen for a program, why, and the versions that count for cache keys."""

    path: str
    kind: Literal["named", "current", "isolated"]
    why: str
    versions: dict[str, str]


def read_header(program: Path) -> Header:
    """The PEP 723 block of a program; `InputError` if it is not valid TOML."""
    match = _BLOCK.search(program.read_text(encoding="utf-8") + "\n")
    if not match:
        return Header()
    lines = match.group("body").splitlines()
    body = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines)
    try:
        table = tomllib.loads(body)
        dependencies = tuple(table.get("dependencies", ()))
        for dependency in dependencies:
            Requirement(dependency)
        SpecifierSet(table.get("requires-python", ""))
    except (tomllib.TOMLDecodeError, InvalidRequirement, InvalidSpecifier) as err:
        msg = f"the header of {program} is not valid: {err}"
        raise InputError(msg, hint="See docs/programs.md for the form of a header.") from err
    return Header(requires_python=table.get("requires-python", ""), dependencies=dependencies)


def variable(program: Path) -> str:
    """The environment variable in which a user names the Python for this program."""
    return "EDGEDEPLOY_PYTHON_" + re.sub(r"\W", "_", program.stem).upper()


def choose(program: Path) -> Interpreter:
    """The interpreter for `program`; makes the isolated environment where that is the choice.

    Raises `InputError` when the named interpreter does not run, `MissingError` when no environment
    can be made.
    """
    header = read_header(program)
    named = os.environ.get(variable(program))
    if named:
        versions = _versions_of(named, header, variable(program))
        return Interpreter(
            path=named, kind="named", why=f"named in {variable(program)}", versions=versions
        )
    missing = unmet(header)
    if not missing:
        return Interpreter(
            path=sys.executable,
            kind="current",
            why="its packages satisfy the header",
            versions=_current_versions(header),
        )
    path = _isolated(program, header)
    return Interpreter(
        path=str(path),
        kind="isolated",
        why=f"the current Python lacks {', '.join(missing)}",
        versions=_versions_of(str(path), header, variable(program)),
    )


def preview(program: Path) -> tuple[Literal["named", "current", "isolated"], str, str]:
    """Kind, path and reason of the choice, without making an environment."""
    header = read_header(program)
    if named := os.environ.get(variable(program)):
        return "named", named, f"named in {variable(program)}"
    missing = unmet(header)
    if not missing:
        return "current", sys.executable, "its packages satisfy the header"
    path = _environment(program, header) / "bin" / "python"
    state = "made" if (path.parent.parent / "complete").exists() else "made at first use"
    return "isolated", str(path), f"{state}: the current Python lacks {', '.join(missing)}"


def unmet(header: Header) -> list[str]:
    """The parts of a header that the running interpreter does not satisfy."""
    found = []
    python = platform.python_version()
    if header.requires_python and python not in SpecifierSet(header.requires_python):
        found.append(f"python{header.requires_python}")
    for text in header.dependencies:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(text)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{text} (has {version})")
    return found


def _names(header: Header) -> list[str]:
    return [canonicalize_name(Requirement(text).name) for text in header.dependencies]


def _current_versions(header: Header) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _names(header):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _versions_of(python: str, header: Header, where: str) -> dict[str, str]:
    command = [python, "-c", _VERSIONS, json.dumps(_names(header))]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as err:
        detail = getattr(err, "stderr", "") or str(err)
        msg = f"the interpreter {python!r} does not run: {detail.strip()[-300:]}"
        raise InputError(msg, hint=f"Correct or unset {where}.") from err
    answer = json.loads(done.stdout.splitlines()[-1])
    versions = {name: version for name, version in answer["versions"].items() if version}
    return {"python": answer["python"], **versions}


def _lock_file(program: Path) -> Path:
    return program.with_suffix(".lock")


def _environment(program: Path, header: Header) -> Path:
    lock = _lock_file(program)
    pins = lock.read_bytes() if lock.exists() else b""
    text = repr((header.requires_python, header.dependencies)).encode() + pins
    key = hashlib.sha256(text).hexdigest()[:12]
    return cache_folder() / "environments" / f"{program.stem}-{key}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _isolated(program: Path, header: Header) -> Path:
    folder = _environment(program, header)
    python = folder / "bin" / "python"
    with _locked(folder.with_suffix(".lock")):
        if (folder / "complete").exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        lock = _lock_file(program)
        wanted = header.requires_python or ">=3.9"
        _uv(program, "venv", "--quiet", "--no-python-downloads", "--python", wanted, str(folder))
        if header.dependencies:
            what = ["-r", str(lock)] if lock.exists() else list(header.dependencies)
            _uv(program, "pip", "install", "--quiet", "--python", str(python), *what)
        (folder / "complete").write_text("", encoding="utf-8")
    return python


def _uv(program: Path, *arguments: str) -> None:
    environment = dict(os.environ)
    if "PIP_FIND_LINKS" in environment:  # uv looks there only when told so
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        msg = f"no environment for {program.name}: {done.stderr.strip()[-400:]}"
        hint = f"Install what it names, or set {variable(program)} to a Python that has it."
        raise MissingError(msg, hint=hint)
