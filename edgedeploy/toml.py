"""TOML files into records; wrong keys and types become errors naming the place and the remedy."""

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgedeploy.errors import InputError, nearest

T = TypeVar("T")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The table in `path`; `InputError` when it is missing, unreadable or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.toml")]
        msg = f"{what} file {path} does not exist"
        raise InputError(msg, hint=nearest(path.name, siblings)) from None
    except OSError as err:
        msg = f"{what} file {path} cannot be read: {err.strerror}"
        raise InputError(msg, hint="Name a .toml file that may be read.") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        msg = f"{what} file {path} is not TOML: {err}"
        raise InputError(msg, hint="Mend the line named.") from err


def decode(table: dict[str, Any], kind: type[T], where: str) -> T:
    """`table` as a record of `kind`; `InputError` names the key, what was found and expected."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as err:
        msg = f"{where}: {err}"
        raise InputError(msg, hint=_remedy(str(err), kind)) from err


def _remedy(message: str, kind: type[Any]) -> str:
    unknown = re.search(r"unknown field `([^`]+)`(?: - at `([^`]+)`)?", message)
    if not unknown:
        return "Correct the value at the place named ($ is the file)."
    record = kind
    for step in re.findall(r"\.(\w+)", unknown.group(2) or ""):
        record = _inner(record, step)
    fields = [f.encode_name for f in msgspec.structs.fields(record)] if _is_record(record) else []
    return nearest(unknown.group(1), fields)


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _inner(kind: type[Any], field: str) -> type[Any]:
    """The record class behind a field, through tuples and unions."""
    if not _is_record(kind):
        return kind
    found = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}.get(field)
    queue = [found]
    while queue:
        candidate = queue.pop()
        if _is_record(candidate):
            return candidate  # type: ignore[return-value]
        queue += list(getattr(candidate, "__args__", ()))
    return kind
