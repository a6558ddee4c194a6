"""Optimization profiles: which shapes an engine takes where the model leaves them free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trt_faults import BadInput, Unsupported, require
from trt_options import ENDS

if TYPE_CHECKING:
    Table = dict[str, Any]
    Thing = Any  # of the library, which is an argument: its classes cannot be named


def profiled(builder: Thing, network: Thing, config: Thing, chosen: Table) -> Table:
    """Give `config` a profile of the network's free sizes; by input its shapes, None if static.

    They come from the options `profiles`, and from `max_batch` for inputs whose only free axis is
    the first. A static model gets no profile. Raises `BadInput` for a shape that does not fit.
    """
    tensors = [network.get_input(place) for place in range(network.num_inputs)]
    require(chosen["profiles"], [tensor.name for tensor in tensors], "profiles: input")
    found = {tensor.name: shapes_of(tensor, chosen) for tensor in tensors}
    if any(found.values()):
        profile = builder.create_optimization_profile()
        for name, shapes in found.items():
            if shapes:
                profile.set_shape(name, *(tuple(shapes[end]) for end in ENDS))
        config.add_optimization_profile(profile)
    return found


def shapes_of(tensor: Thing, chosen: Table) -> Table | None:
    """The profile of one input, or None where all its sizes are fixed."""
    if getattr(tensor, "is_shape_tensor", False):
        msg = f"input {tensor.name!r} holds a shape, and a profile would be of its values"
        raise Unsupported(msg, "Export the model with that shape as a constant.")
    return shapes_for(tensor.name, [int(size) for size in tensor.shape], chosen)


def shapes_for(name: str, shape: list[int], chosen: Table) -> Table | None:
    """The profile of an input of this shape, -1 where a size is free; None where none is."""
    free = [axis for axis, size in enumerate(shape) if size < 0]
    given = chosen["profiles"].get(name)
    if not free:
        if given:
            msg = f"profiles: input {name!r} is static {shape}: there is nothing to choose"
            raise BadInput(msg, "Leave it out, or export the model with a free batch axis.")
        return None
    if given:
        for end in ENDS:
            sizes = list(given[end])
            fixed = {axis: size for axis, size in enumerate(shape) if size >= 0}
            if len(sizes) != len(shape) or any(sizes[a] != size for a, size in fixed.items()):
                msg = f"profiles: input {name!r} is {shape} (-1 is free), {end} is {sizes}"
                raise BadInput(msg, "Keep the model's fixed sizes.")
        return {end: list(given[end]) for end in ENDS}
    if free != [0] or not chosen["max_batch"]:
        msg = f"input {name!r} is {shape} (-1 is free), and no profile says which sizes it takes"
        hint = "Set `max_batch`." if free == [0] else "Set `profiles`."
        raise BadInput(msg, hint)
    largest = [chosen["max_batch"], *shape[1:]]
    return {"min": [1, *shape[1:]], "opt": largest, "max": largest}
