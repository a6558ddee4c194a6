"""The rewrites a target asks for by name, applied in their order."""

from collections.abc import Callable, Iterable

import onnx

from edgedeploy.errors import InputError, nearest
from edgedeploy.graph.abs_free import abs_free
from edgedeploy.graph.fold_gdn import fold_gdn
from edgedeploy.graph.fuse_gelu import fuse_gelu
from edgedeploy.graph.shapes import with_shapes

Rewrite = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, list[str]]]

REWRITES: dict[str, Rewrite] = {
    "abs_free": abs_free,
    "fold_gdn": fold_gdn,
    "fuse_gelu": fuse_gelu,
}


def rewrite(model: onnx.ModelProto, names: Iterable[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The model after the rewrites of these names, and a note for each that changed something.

    Each keeps the outputs within the rounding of float32. A model in which nothing is found is
    returned as it is. Raises `InputError` for a name that is not known.
    """
    wanted = list(names)
    for name in wanted:
        if name not in REWRITES:
            msg = f"rewrite {name!r} is not known"
            raise InputError(msg, hint=nearest(name, list(REWRITES)))
    notes: list[str] = []
    result = model
    for name in wanted:
        result, found = REWRITES[name](result)
        notes += [f"{name}: {note}" for note in found]
    return (with_shapes(result), notes) if result is not model else (model, notes)
