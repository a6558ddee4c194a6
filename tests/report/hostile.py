"""A report whose every free text is an attack on whatever shows it."""

import types
import typing
from typing import Any

import msgspec
from sample import Arrays, sample

from edgedeploy.records import Report

ATTACK = (
    "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)><!--&amp;\x1b[31m\u202e|"
)
SHOWN = ATTACK.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")


def hostile() -> tuple[Report, dict[tuple[str, str, str], Arrays]]:
    """The sample with the attack in front of every string that no type limits."""
    report, series = sample()
    attacked = typing.cast("Report", _attack(report, Report))
    keyed = {
        (_plus(run), _plus(target), _plus(precision)): {_plus(k): v for k, v in arrays.items()}
        for (run, target, precision), arrays in series.items()
    }
    return attacked, keyed


def _plus(text: str) -> str:
    return ATTACK + text


def _attack(value: object, kind: object) -> object:
    if isinstance(value, msgspec.Struct):
        hints = typing.get_type_hints(type(value))
        return type(value)(**{
            field: _attack(getattr(value, field), hints[field]) for field in value.__struct_fields__
        })  # fmt: skip
    if isinstance(value, str):
        return value if _limited(kind) else _plus(value)
    if isinstance(value, tuple | list):
        inner = (typing.get_args(kind) or (Any,))[0]
        return type(value)(_attack(v, inner) for v in value)
    if isinstance(value, dict):
        inner = (typing.get_args(kind) or (Any, Any))[1]
        # A figure's, stage's or memory's key is ours, the names of facts and options are not.
        ours = inner in (bool, int, float) or typing.get_origin(kind) is None
        plain = ours or getattr(inner, "__name__", "") == "Figure"
        return {k if plain else _plus(k): _attack(v, inner) for k, v in value.items()}
    return value


def _limited(kind: object) -> bool:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return any(_limited(part) for part in typing.get_args(kind))
    return typing.get_origin(kind) is typing.Literal
