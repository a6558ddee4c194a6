"""The options of the compilers: their defaults, what they may be, what each precision asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_faults import BadInput, Unsupported, require

if TYPE_CHECKING:
    from collections.abc import Iterable

    Table = dict[str, Any]

# a tuple holds the choices, its first the default; 0 of a number is the library's own choice
COMMON: Table = {
    "workspace_bytes": 0,
    "optimization_level": ("default", 0, 1, 2, 3, 4, 5),
    "sparsity": False,
    "max_batch": 0,  # of a model with a batch axis that is free: the largest, and the tuned one
    "profiles": {},  # by input: {min = shape, opt = shape, max = shape}
}
ENDS = ("min", "opt", "max")


def checked(options: Table, known: Table) -> Table:
    """The options over the defaults of `known`; an unknown name, value or type is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in known.items()}
    require(options, known, "option")
    for key, value in options.items():
        fix = known[key]
        if isinstance(fix, tuple):
            if value not in fix or isinstance(value, bool):
                require([value], fix, f"{key}:")
        elif type(value) is not type(fix):
            msg = f"option {key} is {value!r}, expected a value like {fix!r}"
            raise BadInput(msg, "Correct its type.")
        elif isinstance(value, int) and value < 0:
            msg = f"option {key} is {value!r}, expected 0 or more"
            raise BadInput(msg, "Correct its value.")
    chosen.update(options)
    check_profiles(chosen)
    return chosen


def check_profiles(chosen: Table) -> None:
    """Refuse profiles that are not three shapes of one rank, in growing order."""
    for name, profile in chosen.get("profiles", {}).items():
        shapes = [profile.get(end) for end in ENDS] if isinstance(profile, dict) else []
        whole = all(
            isinstance(shape, (list, tuple))
            and all(type(size) is int and size > 0 for size in shape)
            for shape in shapes
        )
        if len(shapes) != len(ENDS) or not whole or set(profile) != set(ENDS):
            msg = f"profiles: input {name!r} has {profile!r}, expected min, opt and max shapes"
            raise BadInput(
                msg, "Write {min = [1, 3, 8, 8], opt = [4, 3, 8, 8], max = [8, 3, 8, 8]}."
            )
        one_rank = len({len(shape) for shape in shapes}) == 1
        low, opt, high = shapes
        if not one_rank or not all(low[a] <= opt[a] <= high[a] for a in range(len(low))):
            msg = f"profiles: input {name!r} has {profile!r}: min <= opt <= max does not hold"
            raise BadInput(msg, "Give shapes of one rank whose sizes grow from min to max.")


def check_precision(precision: str, known: Iterable[str], product: str) -> None:
    """Refuse a precision that a product does not build in."""
    names = list(known)
    if precision not in names:
        msg = f"precision {precision!r}: {product} builds in {', '.join(names)}"
        raise Unsupported(msg, f"Take one of {', '.join(names)}.")
