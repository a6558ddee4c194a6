"""Boards as data: targets/*.toml into `Target`, and the programs a target names."""

import os
import re
from pathlib import Path

import msgspec

from edgedeploy.errors import InputError, nearest
from edgedeploy.inventory import HERE, host_variable, place, read_inventory
from edgedeploy.records import Target
from edgedeploy.share import shared_files
from edgedeploy.toml import decode, read_toml

TRANSPORTS = ("local", "serial", "qemu", "ssh")


def target_files() -> dict[str, Path]:
    """Name to path of every target known; the user's own (`EDGEDEPLOY_PATH`) first."""
    return shared_files("targets", ".toml")


def load_target(name: str | Path) -> Target:
    """The target of that name, or in that .toml file; not yet where it is (see `load_targets`).

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
    if not target.name or set("@,") & set(target.name):
        msg = f"target {path}: name is {target.name!r}, expected one without '@' and ','"
        raise InputError(msg, hint='For example name = "bench-board".')
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
    names: str | list[str] | tuple[str, ...],
    *,
    port: str | None = None,
    compute_capability: str | None = None,
) -> list[Target]:
    """Targets from names, or from one text of names separated by commas; each where it is.

    `NAME@DEVICE` is a target on a device of the inventory (`NAME@here`: on none), and the name of a
    device alone means the same; the target is then called `NAME@DEVICE`. `port` is the serial port
    of the one among them that has one, on the host where that board is. `compute_capability` are
    the GPUs, with commas, that those of them are compiled for that compile for one.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    stripped = [part.strip() for part in parts if part.strip()]
    if not stripped:
        msg = "no target is named"
        raise InputError(msg, hint=f"Known: {', '.join(sorted(target_files()))}.")
    found = [_placed(name) for name in dict.fromkeys(stripped)]
    by_name: dict[str, Target] = {}
    for target in found:
        if by_name.setdefault(target.name, target) != target:
            msg = f"two different targets are named {target.name!r}"
            raise InputError(msg, hint="Give one of them another name in its file.")
    targets = list(by_name.values())
    if compute_capability is not None:
        targets = _compiled_for(targets, compute_capability)
    return _on_port(targets, port) if port else targets


def _compiled_for(targets: list[Target], text: str) -> list[Target]:
    """The targets that are compiled for GPUs, for these ones."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted or not all(re.fullmatch(r"\d+\.\d+", part) for part in wanted):
        msg = f"--compute-capability {text!r} is neither one nor a list of them"
        raise InputError(msg, hint="Write --compute-capability 8.6,8.9.")
    key = "compute_capability"
    if not any(key in target.compile_options for target in targets):
        names = ", ".join(target.name for target in targets)
        msg = f"--compute-capability is for targets that compile for a GPU, and {names} does not"
        raise InputError(msg, hint="Leave it out, or name such a target.")
    return [
        msgspec.structs.replace(target, compile_options={**target.compile_options, key: wanted})
        if key in target.compile_options
        else target
        for target in targets
    ]


def places_of(name: str) -> list[Target]:
    """A target where it is; of one with several devices, each of them under both names."""
    target, devices = load_target(name), read_inventory().of(name)
    if len(devices) < 2 or os.environ.get(host_variable(target.name)):
        return [place(target, named=name)]
    return [place(target, device.name, named=name) for device in devices]


def every_target() -> list[Target]:
    """All targets known, each where it is."""
    return [target for name in sorted(target_files()) for target in places_of(name)]


def _placed(text: str) -> Target:
    """The target that one word of `--target` names, where it is."""
    name, device = text, ""
    if "@" in text and not text.endswith(".toml"):
        name, _, device = text.rpartition("@")
        if not name or not device:
            msg = f"target {text!r} has nothing on one side of its '@'"
            raise InputError(msg, hint=f"Write NAME@DEVICE, or NAME@{HERE}.")
    elif not text.endswith(".toml") and text not in target_files():
        inventory = read_inventory()
        entry = inventory.named(text)
        if entry is None:
            known = [*target_files(), *(each.name for each in inventory.entries)]
            msg = f"target {text!r} is not known"
            raise InputError(msg, hint=nearest(text, known))
        name, device = entry.target, text
    target = load_target(name)
    return place(target, device, named="" if name.endswith(".toml") else name)


def _on_port(targets: list[Target], port: str) -> list[Target]:
    boards = [target.name for target in targets if _serial_options(target)]
    if len(boards) != 1:
        msg = f"--port names the line of one board; {len(boards)} of the targets have one: {boards}"
        raise InputError(msg, hint="Name one target with transport serial, or leave --port out.")
    return [_with_port(target, port) if target.name == boards[0] else target for target in targets]


def _serial_options(target: Target) -> str:
    """Which of its device options name the serial port of a target; "" for one without."""
    if target.transport == "serial":
        return "serial"
    return "ssh" if target.transport == "ssh" and "serial" in target.device_options else ""


def _with_port(target: Target, port: str) -> Target:
    options, key = target.device_options, _serial_options(target)
    changed = {**options, key: {**options.get(key, {}), "port": port}}
    return msgspec.structs.replace(target, device_options=changed)


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
