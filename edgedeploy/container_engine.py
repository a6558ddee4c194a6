"""The program that runs containers: Docker or Podman, what it is asked and what it refuses."""

import contextlib
import functools
import os
import platform
import shutil
import subprocess
from typing import Literal

from edgedeploy.errors import MissingError
from edgedeploy.records import Record

ENGINES = ("docker", "podman")
PYTHON = "python3"
ASK_TIMEOUT_S = 60.0
# What `docker run` and `podman run` exit with where they refuse; else it is the command's own code.
REFUSED = 125


class Named(Record):
    """An image, and the variable it was named in."""

    image: str
    variable: str


class Engine(Record):
    """A program that runs containers; `flags` make the user in them the one out here."""

    path: str
    name: Literal["docker", "podman"]
    flags: tuple[str, ...]


def python_inside() -> str:
    """The Python of an image that serves: `EDGEDEPLOY_CONTAINER_PYTHON`, else `python3`."""
    return os.environ.get("EDGEDEPLOY_CONTAINER_PYTHON") or PYTHON


def found_engine(named: Named) -> Engine:
    """`EDGEDEPLOY_CONTAINER_PROGRAM`, else docker, else podman.

    Raises `MissingError` where there is none, or it does not answer.
    """
    wanted = os.environ.get("EDGEDEPLOY_CONTAINER_PROGRAM")
    path = next(filter(None, map(shutil.which, [wanted] if wanted else ENGINES)), None)
    if path is None:
        lacking = "neither docker nor podman"
        if wanted:
            lacking = f"no {wanted!r}, which EDGEDEPLOY_CONTAINER_PROGRAM names"
        msg = f"{named.variable} names the image {named.image}, and there is {lacking}"
        hint = f"Install Docker or Podman, or unset {named.variable} and name a Python instead."
        raise MissingError(msg, hint=hint)
    return _described(path, os.environ.get("DOCKER_HOST", ""), named)


@functools.cache
def _described(path: str, host: str, named: Named) -> Engine:
    """Its kind, and the flags by which files written belong to who asked.

    `host` is where a daemon is asked: another one may differ.
    """
    bare = Engine(path=path, name="docker", flags=())
    user, group = os.getuid(), os.getgid()
    if "podman" in asked_of(bare, named, "--version").lower():
        # without root its user 0 is the one out here, and any other a stranger
        mapped = ("--userns", "keep-id") if user else ()
        return Engine(path=path, name="podman", flags=(*mapped, "--user", f"{user}:{group}"))
    mapped = ()
    if user:
        security = asked_of(bare, named, "info", "--format", "{{json .SecurityOptions}}")
        if "name=rootless" in security:
            user = group = 0
        elif "name=userns" in security:
            mapped = ("--userns", "host")
    return Engine(path=path, name="docker", flags=(*mapped, "--user", f"{user}:{group}"))


def asked_of(engine: Engine, named: Named, *arguments: str) -> str:
    """What the engine answers on stdout; raises `MissingError` where it refuses."""
    what = f"{engine.name} {arguments[0]}"
    try:
        done = subprocess.run(
            [engine.path, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as err:
        msg = f"{what} for {named.image} gave no answer in {ASK_TIMEOUT_S:g} s"
        raise MissingError(msg, hint=f"See whether `{engine.name} info` answers.") from err
    except OSError as err:
        msg = f"{engine.path} cannot be started: {err.strerror or err}"
        raise MissingError(msg, hint="Name another in EDGEDEPLOY_CONTAINER_PROGRAM.") from err
    if done.returncode:
        raise _refusal(engine, named, arguments[0], done.returncode, done.stderr)
    return done.stdout


def _refusal(engine: Engine, named: Named, asked: str, code: int, said: str) -> MissingError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Run '", "See '", "Usage:"))]
    text = " ".join(told)[-600:] or f"exit code {code}"
    for words, meaning, hint in _refusals(engine, named):
        if any(word in said.lower() for word in words):
            return MissingError(f"{meaning}: {text}", hint=hint)
    if asked == "run" and code != REFUSED:
        msg = f"{python_inside()} in {named.image} does not run: {text}"
        hint = "Name the path of its toolchain's Python in EDGEDEPLOY_CONTAINER_PYTHON."
        return MissingError(msg, hint=hint)
    hint = f"Correct what it names, or unset {named.variable}."
    if options := os.environ.get("EDGEDEPLOY_CONTAINER_OPTIONS"):
        hint = f"Correct what it names; EDGEDEPLOY_CONTAINER_OPTIONS added {options!r}."
    return MissingError(f"{engine.name} gives no container of {named.image}: {text}", hint=hint)


def _refusals(engine: Engine, named: Named) -> list[tuple[tuple[str, ...], str, str]]:
    """Words of an engine's refusals in small letters, what they mean, and the remedy."""
    return [
        (
            ("permission denied while trying to connect",),
            f"this user may not use {engine.name}",
            "Join its group (`sudo usermod -aG docker $USER`, then log in anew), or name podman in"
            " EDGEDEPLOY_CONTAINER_PROGRAM.",
        ),
        (
            ("cannot connect to", "failed to connect to", "error during connect"),
            f"the daemon of {engine.name} does not answer",
            "Start it (`sudo systemctl start docker`), or name podman in"
            " EDGEDEPLOY_CONTAINER_PROGRAM.",
        ),
        (
            ("no such image", "image not known", "no such object", "unable to find image"),
            f"there is no image {named.image}",
            f"Load the vendor's file (`{engine.name} load -i FILE`) or pull it yourself: nothing is"
            f" downloaded unasked. `{engine.name} images` lists what there is.",
        ),
        (
            ("exec format error",),
            f"{named.image} is for another processor than this host's",
            f"Take the vendor's image for this host ({platform.machine()}), or another host.",
        ),
    ]


def quietly(engine: Engine, *arguments: str) -> None:
    """Have an engine end what may have ended already."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [engine.path, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
        )
