"""What crosses the wire for an input or output of the model: its shape, layout, units and type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dfc_faults import BadInput, Unsupported
from dfc_script import normalization

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]
    Table = dict[str, Any]


def described_inputs(
    inputs: list[Table], declared: list[Table] | None, chosen: Table
) -> list[Table]:
    """The inputs as the artifact's sidecar has them, without their layers.

    `inputs` are the model's (name, dtype, shape), `declared` the workload's. Pictures (rank 4)
    whose raw values are known are normalized on the chip; anything else arrives in the model's
    units. `wire_dtype` is float32 until data has shown that whole numbers do.
    """
    specs = {spec["name"]: spec for spec in declared or []}
    found = [described_input(each, specs.get(each["name"]), chosen) for each in inputs]
    if chosen["input_color"] and not any(
        is_colour(each, specs.get(each["name"])) for each in found
    ):
        msg = f"input_color is {chosen['input_color']!r}, and no input is a colour picture"
        raise BadInput(msg, "Leave it out, or declare `color` of an input of three channels.")
    return found


def described_input(tensor: Table, spec: Table | None, chosen: Table) -> Table:
    """One input; see `described_inputs`."""
    name, shape = tensor["name"], list(tensor["shape"])
    if len(shape) not in (2, 4):
        msg = f"input {name!r} has shape {shape}: Hailo takes (1, features) or (1, C, H, W)"
        raise Unsupported(msg, "Export it with four axes, those it lacks of size 1.")
    layout = None
    if len(shape) == 4:
        layout = (spec or {}).get("layout") or "NCHW"
    wire = [shape[2], shape[3], shape[1]] if layout == "NCHW" else shape[1:]
    found: Table = {
        "name": name,
        "layer": None,
        "dtype": tensor["dtype"],
        "shape": shape,
        "layout": layout,
        "wire_shape": wire,
        "wire_dtype": "float32",
        "scale": None,
        "offset": None,
        "reverse_channels": False,
    }
    if on_chip(found, spec, chosen):
        assert spec is not None
        pair = normalization(spec, wire[-1])
        if pair is not None:
            found["scale"], found["offset"] = pair
    if spec is not None and chosen["input_color"] and is_colour(found, spec):
        found["reverse_channels"] = chosen["input_color"] != spec["color"]
    return found


def is_colour(entry: Table, spec: Table | None) -> bool:
    """Whether an input is a picture whose channels stand in a known order."""
    color = (spec or {}).get("color")
    return bool(entry["layout"]) and entry["wire_shape"][-1] == 3 and color in ("rgb", "bgr")


def on_chip(entry: Table, spec: Table | None, chosen: Table) -> bool:
    """Whether raw values of 0 to 255 go to the chip for this input."""
    return spec is not None and entry["layout"] is not None and chosen["normalization"] == "chip"


def to_wire(values: Array, entry: Table) -> Array:
    """Model values (N, *model shape) as raw or model values (N, *wire shape), in float64.

    Not rounded: see `as_sent`.
    """
    values = values[:, 0].astype(np.float64)
    if entry["layout"] == "NCHW":
        values = np.moveaxis(values, 1, -1)
    if entry["scale"] is not None:
        values = values * np.array(entry["scale"]) + np.array(entry["offset"])
    if entry["reverse_channels"]:
        values = values[..., ::-1]
    return values


def as_sent(values: Array, entry: Table) -> Array:
    """Wire values in the type they are sent in: whole and within 0 to 255 where that is uint8."""
    if entry["wire_dtype"] == "uint8":
        return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    return np.ascontiguousarray(values.astype(np.float32))


def normalized(values: Array, entry: Table) -> Array:
    """Model values (N, *model shape) as the parsed network takes them: NHWC, in model units."""
    plain = {**entry, "scale": None, "reverse_channels": False}
    return np.ascontiguousarray(to_wire(values, plain).astype(np.float32))


def to_model(values: Array, entry: Table) -> Array:
    """An output as the network gives it, (N, …), in the model's shape and float32."""
    values = np.asarray(values)
    count = len(values)
    if entry["layout"] == "NCHW":
        values = np.moveaxis(values.reshape(count, *entry["wire_shape"]), -1, 1)
    return values.reshape(count, *entry["shape"]).astype(np.float32)


def described_output(tensor: Table, layer: str | None, shape: list[int] | None) -> Table:
    """One output as the sidecar has it; `shape` is its layer's, batch axis left out, where known.

    Whether its channels stand last on the chip and first in the model is told by the sizes, and
    where they tell nothing by how the model ends.
    """
    name, own = tensor["name"], list(tensor["shape"])
    wire, layout = own[1:], None
    if len(own) == 4:
        wire, layout = [own[2], own[3], own[1]], "NCHW"
    if shape is not None and len(own) > 2:
        if int(np.prod(shape)) != int(np.prod(own)):
            msg = f"output {name!r} has shape {own}; the compiled network gives {shape} of {layer}"
            raise Unsupported(msg, "Choose other end nodes: this one became something else.")
        wire = list(shape)
        first = wire[-1] == own[1] and (wire[-1] != own[-1] or not tensor["moved"])
        layout = "NCHW" if first else None
        if layout is None and wire[-1] != own[-1]:
            msg = f"output {name!r} has shape {own}; the chip gives {wire}, channels last"
            raise Unsupported(msg, "Choose end nodes before what reshapes it.")
    return {
        "name": name,
        "layer": layer,
        "dtype": tensor["dtype"],
        "shape": own,
        "layout": layout,
        "wire_shape": wire,
    }


def check_shape(entry: Table, found: list[int]) -> None:
    """Refuse an input whose layer has another shape than the one data would be given in."""
    wire = list(entry["wire_shape"])
    same = wire == found if len(wire) > 1 else int(np.prod(wire)) == int(np.prod(found))
    if not same:
        given = "x".join(str(size) for size in wire)
        taken = "x".join(str(size) for size in found)
        msg = (
            f"input {entry['name']!r} of layout {entry['layout']} would be given as {given}"
            f" (height, width, channels); the network takes {taken}"
        )
        raise BadInput(msg, "Correct `layout` in [[inputs]]: NCHW or NHWC, as the model has it.")
