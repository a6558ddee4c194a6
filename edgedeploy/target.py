"""Boards as data: targets/*.toml into `Target`, and the programs a target names."""

from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.errors import InputError, nearest
from edgedeploy.records import Target
from edgedeploy.share import shared_files
from edgedeploy.toml import decode, read_toml

TRANSPORTS = ("local", "serial", "qemu")


def target_files() -> dict[str, Path]:
    """Name to path of every target known; the user's own (`EDGEDEPLOY_PATH`) first."""
    return shared_files("targets", ".toml")


def load_target(name: str | Path) -> Target:
    """The target of that name, or in that .toml file.

    Raises `InputError` for an unknown name (with the nearest), key, type or transport.
    """
    text = str(name)
    known = target_files()
    path = Path(text) if text.endswith(".toml") else known.get(text)
    if path is None:
        msg = f"target {text!r} is not known"
        raise InputError(msg, hint=nearest(text, list(known)))
    table = read_toml(path, "target")
    table.setdefault("name", path.stem)
    target = decode(table, Target, f"target {path}")
    if target.transport not in TRANSPORTS:
        msg = f"target {path}: transport {target.transport!r} is not known"
        raise InputError(msg, hint=nearest(target.transport, list(TRANSPORTS)))
    if target.transport == "qemu" and target.source == "measured":
        msg = f"target {path}: source is measured, and an emulator measures nothing"
        raise InputError(msg, hint='Write source = "emulated".')
    if not target.precisions:
        msg = f"target {path}: precisions is empty"
        raise InputError(msg, hint='For example precisions = ["fp32", "int8"].')
    return target


def load_targets(
    names: str | list[str] | tuple[str, ...], *, port: str | None = None
) -> list[Target]:
    """Targets from names, or from one text of names separated by commas.

    `port` is the serial port of the one among them that has one.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    stripped = [part.strip() for part in parts if part.strip()]
    if not stripped:
        msg = "no target is named"
        raise InputError(msg, hint=f"Known: {', '.join(sorted(target_files()))}.")
    found = [load_target(name) for name in dict.fromkeys(stripped)]
    by_name: dict[str, Target] = {}
    for target in found:
        if by_name.setdefault(target.name, target) != target:
            msg = f"two different targets are named {target.name!r}"
            raise InputError(msg, hint="Give one of them another name in its file.")
    return _on_port(list(by_name.values()), port) if port else list(by_name.values())


def _on_port(targets: list[Target], port: str) -> list[Target]:
    boards = [target.name for target in targets if target.transport == "serial"]
    if len(boards) != 1:
        msg = f"--port names the line of one board; {len(boards)} of the targets have one: {boards}"
        raise InputError(msg, hint="Name one target with transport serial, or leave --port out.")
    return [
        msgspec.structs.replace(target, device_options=_with_port(target.device_options, port))
        if target.name == boards[0]
        else target
        for target in targets
    ]


def _with_port(options: dict[str, Any], port: str) -> dict[str, Any]:
    return {**options, "serial": {**options.get("serial", {}), "port": port}}


def compiler_program(name: str) -> Path:
    """The file of compiler `name`."""
    return _program("compilers", name, "compiler")


def runtime_program(name: str) -> Path:
    """The file of runtime profiler `name`."""
    return _program("profilers/runtime", name, "runtime profiler")


def instrument_program(name: str) -> Path:
    """The file of instrument `name`."""
    return _program("profilers/instrument", name, "instrument")


def _program(kind: str, name: str, what: str) -> Path:
    known = shared_files(kind, ".py")
    if name not in known:
        msg = f"{what} {name!r} is not known: no {kind}/{name}.py"
        raise InputError(msg, hint=nearest(name, list(known)))
    return known[name]
