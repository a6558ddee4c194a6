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

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from edgedeploy.cache import cache_folder, storage_error
from edgedeploy.errors import InputError, MissingError
from edgedeploy.records import Record

# as PEP 723 gives it
_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<body>(^#(| .*)$\s)+)^# ///$")
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


# the folder a program lies in, and what its kind is called in a variable's name
_KINDS = {"compilers": "COMPILER", "runtime": "RUNTIME", "instrument": "INSTRUMENT"}


class Header(Record, rename="kebab"):
    """What a program says it needs (PEP 723)."""

    requires_python: str = ""
    dependencies: tuple[str, ...] = ()


class Interpreter(Record):
    """The Python chosen for a program, why, and the versions that count for cache keys.

    Of a container, `path` is the Python inside and `image` the image's id.
    """

    path: str
    kind: Literal["named", "current", "isolated", "container"]
    why: str
    versions: dict[str, str]
    image: str = ""


def read_header(program: Path) -> Header:
    """The PEP 723 block of a program; `InputError` if it cannot be read or is not valid."""
    hint = "See docs/programs.md for the form of a header."
    try:
        text = program.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        msg = f"the program {program} cannot be read: {err}"
        raise InputError(msg, hint="A program is a Python file in UTF-8.") from err
    blocks = [match["body"] for match in _BLOCK.finditer(text) if match["type"] == "script"]
    if not blocks:
        return Header()
    if len(blocks) > 1:
        msg = f"{program} has {len(blocks)} script headers, expected one"
        raise InputError(msg, hint=hint)
    body = "\n".join(line[2:] for line in blocks[0].splitlines())
    try:
        table = tomllib.loads(body)
        known = {key: table[key] for key in ("requires-python", "dependencies") if key in table}
        header = msgspec.convert(known, Header)
        SpecifierSet(header.requires_python)
        for dependency in header.dependencies:
            Requirement(dependency)
    except (
        tomllib.TOMLDecodeError,
        msgspec.ValidationError,
        InvalidRequirement,
        InvalidSpecifier,
    ) as err:
        msg = f"the header of {program} is not valid: {err}"
        raise InputError(msg, hint=hint) from err
    return header


def names_of(program: Path) -> tuple[str, str]:
    """A program's name as variables spell it, and the first word of that name."""
    name = re.sub(r"\W", "_", program.stem).upper()
    return name, name.strip("_").partition("_")[0]


def variables(program: Path) -> tuple[str, ...]:
    """The environment variables that may name the Python for this program, the strongest first.

    A compiler and a runtime may share a name and need different Pythons: the one with the kind in
    its name is for one of them. All programs of a vendor may share one: `vendor_thing` takes
    `vendor`'s where it has none of its own.
    """
    name, first = names_of(program)
    kind = _KINDS.get(program.parent.name)
    own = (f"EDGEDEPLOY_PYTHON_{kind}_{name}",) if kind else ()
    return *own, f"EDGEDEPLOY_PYTHON_{name}", f"EDGEDEPLOY_PYTHON_{first}"


def variable(program: Path) -> str:
    """The one of `variables` that is set; else the one of the program's whole name."""
    found = next((name for name in variables(program) if os.environ.get(name)), None)
    return found or f"EDGEDEPLOY_PYTHON_{names_of(program)[0]}"


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
    if not _fits(header):
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


def _fits(header: Header) -> bool:
    python = ".".join(str(part) for part in sys.version_info[:3])
    return SpecifierSet(header.requires_python).contains(python, prereleases=True)


def package_names(header: Header) -> list[str]:
    """The packages a header names, as they are listed where they are installed."""
    return [canonicalize_name(Requirement(text).name) for text in header.dependencies]


def _current_versions(header: Header) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in package_names(header):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _versions_of(python: str, header: Header, where: str) -> dict[str, str]:
    command = [python, "-c", _VERSIONS, json.dumps(package_names(header))]
    hint = f"Correct or unset {where}."
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as err:
        detail = getattr(err, "stderr", "") or str(err)
        msg = f"the interpreter {python!r} does not run: {detail.strip()[-300:]}"
        raise InputError(msg, hint=hint) from err
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        found = {"python": answer["python"], **answer["versions"]}
    except (IndexError, ValueError, KeyError, TypeError) as err:
        msg = f"{python!r} is no Python: asked for its version it said {done.stdout[-80:]!r}"
        raise InputError(msg, hint=hint) from err
    return {name: version for name, version in found.items() if version}


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
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as err:
            raise storage_error(err, path) from err
        yield


def _isolated(program: Path, header: Header) -> Path:
    folder = _environment(program, header)
    python = folder / "bin" / "python"
    with _locked(folder.with_suffix(".lock")):
        if (folder / "complete").exists() and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        lock = _lock_file(program)
        wanted = sys.executable if _fits(header) else header.requires_python
        _uv(program, "venv", "--quiet", "--no-python-downloads", "--python", wanted, str(folder))
        if header.dependencies:
            what = ["-r", str(lock)] if lock.exists() else list(header.dependencies)
            _uv(program, "pip", "install", "--quiet", "--python", str(python), *what)
        try:
            (folder / "complete").touch()
        except OSError as err:
            raise storage_error(err, folder) from err
    return python


def _uv(program: Path, *arguments: str) -> None:
    environment = {**os.environ, "PATH": _search_path()}
    if "PIP_FIND_LINKS" in environment:  # uv looks there only when told so
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    command = [sys.executable, "-m", "uv", "--color", "never", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        msg = f"no environment for {program.name}: {done.stderr.strip()[:600]}"
        hint = f"Install what it names, or set {variable(program)} to a Python that has it."
        raise MissingError(msg, hint=hint)


def _search_path() -> str:
    """PATH with pyenv's own Pythons for its shims, which fail for a version that is not in use."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {
        tuple(int(part) for part in path.parent.name.split(".")): str(path)
        for path in pyenv.glob("versions/*/bin")
        if re.fullmatch(r"3\.\d+\.\d+", path.parent.name)
    }
    newest_first = [found[version] for version in sorted(found, reverse=True) if version >= (3, 8)]
    others = os.environ.get("PATH", os.defpath).split(os.pathsep)
    shims = str(pyenv / "shims")
    return os.pathsep.join([*newest_first, *(each for each in others if each != shims)])
