"""A vendor's toolchain in a container: which image, and how a program is served in it."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import signal
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from edgedeploy import interpreter
from edgedeploy.cache import cache_folder, storage_error
from edgedeploy.container_engine import (
    Engine,
    Named,
    asked_of,
    found_engine,
    python_inside,
    quietly,
)
from edgedeploy.errors import EdgeDeployError, InputError, MissingError, WorkerError, nearest
from edgedeploy.interpreter import Interpreter, names_of, package_names, read_header
from edgedeploy.memory import memory_limit_bytes
from edgedeploy.records import Target
from edgedeploy.share import shared_files
from edgedeploy.worker import INPROC, SERVE, Worker

PYTHON_LEAST = (3, 8)
# What a process that a signal ended is told as: 128 and the signal's number.
SIGNALLED = 128
# How long a program may go on once nobody asks any more, where no thread of it can see that.
ORPHAN_S = 15.0
# an image's name or id as `docker run` takes it, and no option
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]*")
# In the container: its Python, versions of packages, and whether it has this host's folders.
_LOOK = """
import json, os, sys
names, files, folders = json.loads(sys.argv[1])
found = {}
try:
    import importlib.metadata as metadata
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
except ImportError:
    pass
print(json.dumps({
    "python": sys.version.split()[0],
    "versions": found,
    "unseen": [path for path in files if not os.path.exists(path)],
    "unwritable": [path for path in folders if not os.access(path, os.W_OK)],
}))
"""

# In the container: serve, and end what does not see that stdin closed.
_RELAY = """
import os, subprocess, sys, threading
process = subprocess.Popen([sys.executable, *sys.argv[2:]], stdin=subprocess.PIPE, bufsize=0)
def relay():
    try:
        for block in iter(lambda: os.read(0, 65536), b""):
            process.stdin.write(block)
        process.stdin.close()
        process.wait(float(sys.argv[1]))
    except (OSError, subprocess.TimeoutExpired):
        process.kill()
threading.Thread(target=relay, daemon=True).start()
code = process.wait()
os._exit(code if code >= 0 else 128 - code)
"""


def image_of(program: Path) -> Named | None:
    """The image a toolchain's program is to be served in, or None where no variable names one.

    `EDGEDEPLOY_CONTAINER_<NAME>` by the program's name, else by its first word. Raises `InputError`
    for what is no image's name.
    """
    for name in names_of(program):
        variable = f"EDGEDEPLOY_CONTAINER_{name}"
        if image := os.environ.get(variable):
            if not _IMAGE.fullmatch(image):
                msg = f"{variable} is {image!r}, expected the name of an image"
                raise InputError(msg, hint="For example vendor/sdk:1.2, as `docker images` lists.")
            return Named(image=image, variable=variable)
    return None


def use(asked: Sequence[str], targets: Iterable[Target]) -> None:
    """Name images for compilers, in this process and what it starts: `[NAME=]IMAGE`, with commas.

    Without a name it is the compiler of `targets`. Raises `InputError` for a compiler that is not
    known, and where several could be meant.
    """
    known = shared_files("compilers", ".py")
    for part in [each.strip() for text in asked for each in text.split(",") if each.strip()]:
        name, _, image = part.rpartition("=")
        if not name:
            names = sorted({target.compiler for target in targets})
            if len(names) != 1:
                msg = f"--container {image} names no compiler, and the targets have {names}"
                raise InputError(msg, hint=f"Write {names[0]}={image}." if names else "")
            name = names[0]
        if name not in known:
            msg = f"--container {part}: compiler {name!r} is not known"
            raise InputError(msg, hint=nearest(name, list(known)))
        os.environ[f"EDGEDEPLOY_CONTAINER_{names_of(Path(name + '.py'))[0]}"] = image
        image_of(known[name])


def choose(program: Path) -> Interpreter:
    """Where a toolchain's program runs: in the image named for it, else as `interpreter.choose`.

    In a container the image's id counts among the versions, as it tells all that is in it. Raises
    `MissingError` where no container can be had, and `InputError` for a wrong setting.
    """
    named = image_of(program)
    if named is None:
        return interpreter.choose(program)
    engine = found_engine(named)
    id_ = asked_of(engine, named, "image", "inspect", "--format", "{{.Id}}", named.image).strip()
    found = _look(engine, named, id_, program)
    versions = {
        **found["versions"],
        "python": found["python"],
        "container": id_.removeprefix("sha256:"),
    }
    if options := os.environ.get("EDGEDEPLOY_CONTAINER_OPTIONS"):
        versions["container options"] = options
    return Interpreter(
        path=python_inside(),
        kind="container",
        why=f"in {named.image}, named in {named.variable}",
        versions=versions,
        image=id_,
    )


def preview(
    program: Path,
) -> tuple[Literal["named", "current", "isolated", "container"], str, str]:
    """Kind, path (an image's name for a container) and reason of the choice; starts nothing."""
    named = image_of(program)
    if named is None:
        return interpreter.preview(program)
    return "container", named.image, f"named in {named.variable}"


def serve(program: Path, chosen: Interpreter | None = None, *, timeout_s: float = 600.0) -> Worker:
    """A toolchain's program being served where `choose` says; the container ends with the worker.

    The container sees the programs, the runs and the folders of `EDGEDEPLOY_CONTAINER_FOLDERS` to
    read, the cache and the folder for temporary files to write, and no network.
    """
    chosen = chosen or choose(program)
    named = image_of(program)
    if chosen.kind != "container" or named is None:
        command = [chosen.path, str(SERVE), str(program)]
        return Worker(program.stem, command, timeout_s=timeout_s)
    return ContainerWorker(program, chosen.image, named, timeout_s=timeout_s)


class ContainerWorker(Worker):
    """A program served in a container, which ends with this worker."""

    def __init__(self, program: Path, image: str, named: Named, *, timeout_s: float) -> None:
        self._named = named
        self._engine = found_engine(named)
        self._container = _fresh_name(program)
        self._mounts = _mounts(program)
        self._home = _fresh_home()
        command = [
            *_run_command(self._engine, self._container, image, self._mounts, self._home.name),
            *("-c", _RELAY, str(ORPHAN_S), str(SERVE.resolve()), str(program.resolve())),
        ]
        super().__init__(program.stem, command, timeout_s=timeout_s)

    def start(self, function: str, **arguments: Any) -> None:
        """Send a request; raises `InputError` for a file that the container does not see."""
        for path in _paths(arguments):
            if not any(path == each or each in path.parents for each in self._mounts):
                msg = f"{path} is in no folder that the container of {self.name} sees"
                hint = f"Set EDGEDEPLOY_CONTAINER_FOLDERS to {path.parent}, or move the file."
                raise InputError(msg, hint=hint)
        super().start(function, **arguments)

    def close(self, grace_s: float = 2.0) -> None:
        """End the container and all that runs in it; waits `grace_s` for it to leave by itself."""
        super().close(grace_s)
        self._home.cleanup()

    def _kill(self) -> None:
        code = self._process.poll()
        # killing the client leaves its container running
        remains = not self._over and (code is None or code < 0)
        if remains:
            quietly(self._engine, "kill", self._container)
        super()._kill()
        if remains:
            quietly(self._engine, "rm", "--force", self._container)

    def _end_of_program(self, code: int) -> WorkerError:
        number = code - SIGNALLED
        found = super()._end_of_program(-number if 0 < number < signal.NSIG else code)
        if number != signal.SIGKILL:
            return found
        msg = (
            f"{self.name} was killed in its container during {self._called} (the system does that"
            f" where it takes more than its {self._limit / 1e9:.2f} GB)"
        )
        hint = "Use fewer calibration samples, or raise EDGEDEPLOY_WORKER_MEMORY_BYTES."
        return WorkerError(msg, hint=hint, log=found.log)

    def _failure(self, error: dict[str, Any]) -> EdgeDeployError:
        if error.get("kind") == "missing":
            where = (
                f"It ran as {python_inside()} in {self._named.image}: EDGEDEPLOY_CONTAINER_PYTHON"
                f" names another Python of the image, {self._named.variable} another image."
            )
            error = {**error, "hint": " ".join(filter(None, [error.get("hint"), where]))}
        return super()._failure(error)


def _fresh_name(program: Path) -> str:
    plain = re.sub(r"[^A-Za-z0-9]+", "-", program.stem).strip("-")
    return f"edgedeploy-{plain}-{uuid.uuid4().hex[:12]}"


def _fresh_home() -> tempfile.TemporaryDirectory[str]:
    """A home of its own, which is where it works too: toolchains write logs and settings there.

    One in the container's memory alone would be root's.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="edgedeploy-home-", ignore_cleanup_errors=True)
    except OSError as err:
        raise storage_error(err, Path(tempfile.gettempdir())) from err


def _run_command(
    engine: Engine, name: str, image: str, mounts: dict[Path, bool], home: str
) -> list[str]:
    """The command line up to the image; the arguments of its Python follow.

    The image's own entry is passed over: what it prints would be taken for an answer.
    """
    limit, own = memory_limit_bytes(), _own_options()
    network = () if any(each.startswith("--net") for each in own) else ("--network", "none")
    folders = [
        part for path, writable in mounts.items() for part in ("--mount", _mount(path, writable))
    ]
    settings = {"HOME": home, "USER": "edgedeploy", "TMPDIR": tempfile.gettempdir()}
    return [
        *(engine.path, "run", "--rm", "--interactive", "--init", "--pull", "never"),
        *("--name", name, *network, "--log-driver", "none", *engine.flags),
        # a container may be kept from a host's folders by their labels, which are not ours to set
        *("--security-opt", "no-new-privileges", "--security-opt", "label=disable"),
        *("--memory", str(limit), "--shm-size", str(limit // 2)),
        *folders,
        *("--workdir", home),
        *(part for key, value in settings.items() for part in ("--env", f"{key}={value}")),
        *own,
        *("--entrypoint", python_inside(), image),
    ]


def _own_options() -> list[str]:
    text = os.environ.get("EDGEDEPLOY_CONTAINER_OPTIONS", "")
    try:
        return shlex.split(text)
    except ValueError as err:
        msg = f"EDGEDEPLOY_CONTAINER_OPTIONS is {text!r}: {err}"
        raise InputError(msg, hint='For example "--gpus all".') from err


def _mounts(program: Path) -> dict[Path, bool]:
    """Folders that a container of this program sees at the paths they have here; true to write."""
    from edgedeploy.store import runs_folder

    home = program.resolve().parent
    root = next(
        (each.parent for each in (home, home.parent) if each.name in {"compilers", "profilers"}),
        None,
    )
    programs = [root / "compilers", root / "profilers"] if root else [home]
    named = os.environ.get("EDGEDEPLOY_CONTAINER_FOLDERS", "")
    more = [Path(part).absolute() for part in named.split(os.pathsep) if part]
    for folder in more:
        if not folder.is_dir():
            msg = f"EDGEDEPLOY_CONTAINER_FOLDERS names {folder}, which is no folder"
            raise InputError(msg, hint="Separate folders like those of PATH.")
    read = [INPROC.resolve(), *programs, runs_folder().absolute(), *more]
    write = [cache_folder().absolute(), Path(tempfile.gettempdir()).absolute()]
    try:
        write[0].mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise storage_error(err, write[0]) from err
    found = {path: False for path in read if path.is_dir()} | dict.fromkeys(write, True)
    return {
        path: found[path]
        for path in sorted(found)
        if not any(found.get(above) == found[path] for above in path.parents)
    }


def _mount(path: Path, writable: bool) -> str:
    fields = ["type=bind", f"source={path.resolve()}", f"destination={path}"]
    text = io.StringIO()  # as the engines read it: a comma in a path is quoted
    csv.writer(text, lineterminator="").writerow(fields if writable else [*fields, "readonly"])
    return text.getvalue()


def _paths(value: object) -> Iterator[Path]:
    """The absolute paths of files there are, in what a function is given."""
    if isinstance(value, str):
        if value.startswith("/") and os.path.lexists(value):
            yield Path(os.path.normpath(value))
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _paths(each)


def _look(engine: Engine, named: Named, image: str, program: Path) -> dict[str, Any]:
    """What is in the container: `python`, `versions`; raises for what keeps it from serving."""
    name, mounts = _fresh_name(program), _mounts(program)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(_fresh_home())
        folders = [path for path, writable in mounts.items() if writable]
        try:
            made = [
                stack.enter_context(tempfile.NamedTemporaryFile(prefix="edgedeploy-", dir=path))
                for path in folders
            ]
        except OSError as err:
            raise storage_error(err, folders[0]) from err
        files = [str(SERVE.resolve()), str(program.resolve()), *(file.name for file in made)]
        asked = json.dumps([package_names(read_header(program)), files, list(map(str, folders))])
        command = _run_command(engine, name, image, mounts, home)[1:]
        try:
            said = asked_of(engine, named, *command, "-c", _LOOK, asked)
        except BaseException:
            quietly(engine, "rm", "--force", name)
            raise
    try:
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        version = tuple(int(part) for part in found["python"].split(".")[:2])
    except (IndexError, ValueError, KeyError, TypeError) as err:
        msg = f"{python_inside()} in {named.image} is no Python: it said {said[-80:]!r}"
        raise InputError(msg, hint="Correct EDGEDEPLOY_CONTAINER_PYTHON.") from err
    where = f"the container of {named.image}"
    if version < PYTHON_LEAST:
        msg = (
            f"{python_inside()} in {named.image} is Python {found['python']}, expected 3.8 or later"
        )
        raise MissingError(msg, hint="Name a later one in EDGEDEPLOY_CONTAINER_PYTHON.")
    if found["unseen"]:
        msg = f"{where} does not see {found['unseen'][0]} of this host"
        hint = (
            f"A {engine.name} from a snap, or whose daemon is on another host, sees other folders:"
            " take one of this host, or name a TMPDIR and EDGEDEPLOY_CACHE that it shares."
        )
        raise MissingError(msg, hint=hint)
    if found["unwritable"]:
        msg = f"{where} may not write into {found['unwritable'][0]}"
        hint = f"User {os.getuid()} of this host must own it, and {engine.name} map it to itself."
        raise MissingError(msg, hint=hint)
    return found
