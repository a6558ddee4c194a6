"""Devices on other hosts: which target is where, by a variable or by an inventory file."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.errors import InputError, nearest
from edgedeploy.records import Record, Target
from edgedeploy.share import shared_files
from edgedeploy.toml import decode, read_toml

VARIABLE = "EDGEDEPLOY_DEVICES"
FILE = "devices.toml"
# In the place of a device's name: not on another host, whatever the variable or the file says.
HERE = "here"
# Emulators are not among them: nothing is gained by one on another host.
PLACEABLE = ("local", "serial", "ssh")
NAME = re.compile(r"[A-Za-z0-9_](?:[\w.-]*[\w-])?", re.ASCII)
# [user@]name, an address, or ssh://[user@]name:port: never an option of ssh, nor a shell's word.
HOST = re.compile(r"(?:ssh://)?(?:\w[\w.+@-]*@)?[\w.:\[][\w.:%\]-]*", re.ASCII)
# It stands bare in the one line that ssh gives to the shell over there.
PYTHON = re.compile(r"(?:~?/)?\w[\w.+-]*(?:/[\w.+-]+)*", re.ASCII)


class Entry(Record):
    """One `[[device]]` of an inventory.

    `host` is what ssh is called with. Over there: `python` runs what is sent, `folder` keeps it,
    `lock` names what runs there exclude each other from, `port` is a board's serial port.
    """

    name: str
    host: str
    target: str
    port: str = ""
    lock: str = ""
    python: str = ""
    folder: str = ""

    def options(self) -> dict[str, Any]:
        """What it says beside `name` and `target`, for `device_options.ssh`."""
        told = msgspec.structs.asdict(self)
        return {key: told[key] for key in told if key not in ("name", "target") and told[key]}


class InventoryFile(Record):
    """What may stand in an inventory file."""

    device: tuple[Entry, ...] = ()


class Inventory(Record):
    """The devices known, and the file that names them ("" where there is none)."""

    path: str = ""
    entries: tuple[Entry, ...] = ()

    def of(self, target: str) -> list[Entry]:
        """The devices of a target, in the order of the file."""
        return [entry for entry in self.entries if entry.target == target]

    def named(self, name: str) -> Entry | None:
        """The device of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


def inventory_paths() -> list[Path]:
    """Where the inventory is looked for: the file in `EDGEDEPLOY_DEVICES`, else here, else in the
    user's folder of settings.
    """
    if named := os.environ.get(VARIABLE):
        return [Path(named).expanduser()]
    import platformdirs

    return [Path(FILE), platformdirs.user_config_path("edgedeploy") / FILE]


def read_inventory() -> Inventory:
    """The devices of the first inventory file there is; none where there is no file.

    Raises `InputError` for a file named in `EDGEDEPLOY_DEVICES` that is missing, and for what is
    wrong in one: keys, values, names given twice, targets that nobody knows.
    """
    candidates = inventory_paths()
    found = [path for path in candidates if path.exists()]
    if not found and not os.environ.get(VARIABLE):
        return Inventory()
    path = (found or candidates)[0]
    table = read_toml(path, "devices")
    where = f"devices file {path}"
    decode({**table, "device": []}, InventoryFile, where)
    tables = table.get("device", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        msg = f"{where}: device is no list of tables"
        raise InputError(msg, hint="Write [[device]], with two brackets on each side.")
    entries: dict[str, Entry] = {}
    for number, each in enumerate(tables, 1):
        told = each.get("name")
        where = f"devices file {path}: device {told!r}" if told else f"{path}: device {number}"
        entry = _sound(decode(each, Entry, where), where)
        if entry.name in entries:
            msg = f"devices file {path}: two devices are named {entry.name!r}"
            raise InputError(msg, hint="A name is one device's: give one of them another.")
        entries[entry.name] = entry
    return Inventory(path=str(path), entries=tuple(entries.values()))


def host_variable(target: str) -> str:
    """The environment variable that names the host of a target."""
    return "EDGEDEPLOY_HOST_" + _variable_part(target)


def base_name(target: str) -> str:
    """A target's name without the device that was named with it: the name that its file gives."""
    return target.partition("@")[0]


def host_of(target: Target) -> str:
    """The host a target is on, as ssh takes it; "" where it is this one, or none is named."""
    if target.transport != "ssh":
        return ""
    return str(target.device_options.get("ssh", {}).get("host", ""))


def lacks_host(target: Target) -> str:
    """What to do about a target that lives on another host, and none is named; "" otherwise."""
    if target.transport != "ssh" or host_of(target):
        return ""
    variable = host_variable(base_name(target.name))
    return f"Set {variable}=user@host, or name a device of it in {FILE} (docs/devices.md)."


def check_host(host: str, where: str) -> str:
    """`host` where ssh may be called with it; else an `InputError`."""
    if not HOST.fullmatch(host):
        msg = f"{where}: host is {host!r}, expected user@host or a name of ~/.ssh/config"
        hint = "Options of ssh, such as a port or a key, belong into ~/.ssh/config."
        raise InputError(msg, hint=hint)
    return host


def place(target: Target, device: str = "", *, named: str = "") -> Target:
    """The target on the host where it is.

    `device` is the one asked for by name, or `HERE`: the target then bears both names. Else
    `EDGEDEPLOY_HOST_<TARGET>` tells the host, or the one device of the inventory that is of this
    target (`named` is how the inventory names it, its own name where left out).

    Raises `InputError` where several devices are, the one asked for is not, or this target cannot
    be on another host.
    """
    known_as = named or target.name
    if device == HERE:
        transport = "local" if target.transport == "ssh" else target.transport
        return _renamed(target, device, transport=transport)
    inventory = read_inventory()
    if device:
        entry = _asked(inventory, device, known_as)
        return _renamed(_on_host(target, entry.options(), f"device {device!r}"), device)
    variable = host_variable(target.name)
    if host := os.environ.get(variable, "").strip():
        return _on_host(target, {"host": check_host(host, variable)}, variable)
    entries = inventory.of(known_as)
    if len(entries) > 1:
        names = ", ".join(entry.name for entry in entries)
        both = ",".join(f"{known_as}@{entry.name}" for entry in entries[:2])
        msg = f"{len(entries)} devices are of target {known_as!r}: {names}"
        hint = f"Name one: --target {known_as}@{entries[0].name}; or several: --target {both}."
        if target.transport != "ssh":
            hint += f" This computer is {known_as}@{HERE}."
        raise InputError(msg, hint=hint)
    if not entries:
        return target
    return _on_host(target, entries[0].options(), f"device {entries[0].name!r}")


def _sound(entry: Entry, where: str) -> Entry:
    """`entry` if its values can be used as they are meant."""
    if not NAME.fullmatch(entry.name) or entry.name == HERE or entry.name.endswith(".toml"):
        msg = f"{where}: name is {entry.name!r}, expected letters, digits, '_', '-' and '.'"
        raise InputError(msg, hint=f'For example name = "bench-1"; "{HERE}" is taken.')
    check_host(entry.host, where)
    known = sorted(shared_files("targets", ".toml"))
    if entry.target not in known:
        msg = f"{where}: target {entry.target!r} is not known"
        raise InputError(msg, hint=nearest(entry.target, known))
    if entry.python and not PYTHON.fullmatch(entry.python):
        msg = f"{where}: python is {entry.python!r}, expected a command or a path without blanks"
        raise InputError(msg, hint='For example python = "~/venv/bin/python".')
    for key, text in (("port", entry.port), ("lock", entry.lock), ("folder", entry.folder)):
        if text.startswith("-") or not text.isprintable() or text != text.strip():
            msg = f"{where}: {key} is {text!r}, expected a name or path of that host"
            raise InputError(msg, hint=f"Correct it, or leave {key} out.")
    return entry


def _asked(inventory: Inventory, device: str, target: str) -> Entry:
    """The device of that name, which is to be of this target."""
    entry = inventory.named(device)
    if entry is None:
        if not inventory.path:
            looked = " and ".join(str(path) for path in inventory_paths())
            msg = f"device {device!r} is not known: there is no inventory (looked at {looked})"
            raise InputError(msg, hint="docs/devices.md shows the form of one.")
        others = inventory.of(target) or inventory.entries
        msg = f"device {device!r} is not in {inventory.path}"
        raise InputError(msg, hint=nearest(device, [each.name for each in others]))
    if entry.target != target:
        msg = f"device {device!r} of {inventory.path} is of target {entry.target!r}, not {target!r}"
        raise InputError(msg, hint=f"--target {entry.target}@{device}.")
    return entry


def _on_host(target: Target, options: dict[str, Any], by: str) -> Target:
    if target.transport not in PLACEABLE:
        msg = (
            f"target {target.name} has transport {target.transport!r}, an emulator of this host,"
            f" and {by} puts it on another"
        )
        raise InputError(msg, hint="Leave that out: it runs here.")
    ssh = {**target.device_options.get("ssh", {}), **options}
    port = os.environ.get("EDGEDEPLOY_PORT_" + _variable_part(target.name), "")
    if target.transport == "serial" and port and not ssh.get("port"):
        ssh["port"] = port
    changed = {**target.device_options, "ssh": ssh}
    return msgspec.structs.replace(target, transport="ssh", device_options=changed)


def _renamed(target: Target, device: str, **changes: Any) -> Target:
    return msgspec.structs.replace(target, name=f"{target.name}@{device}", **changes)


def _variable_part(target: str) -> str:
    return re.sub(r"\W", "_", target).upper()
