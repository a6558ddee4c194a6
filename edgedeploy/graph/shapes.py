"""Static shapes: symbolic dimensions get the sizes asked for, or are named."""

from collections.abc import Mapping, Sequence

import onnx

from edgedeploy.errors import ExportError
from edgedeploy.graph.read import real_inputs

UNKNOWN = "?"


def dimensions(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """Sizes of a graph value; a symbolic or unknown dimension is its name or `?`."""
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or UNKNOWN
        for d in value.type.tensor_type.shape.dim
    )


def set_dimensions(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """Give a graph value this static shape."""
    del value.type.tensor_type.shape.dim[:]
    for size in shape:
        value.type.tensor_type.shape.dim.add().dim_value = size


def fix_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]
) -> tuple[onnx.ModelProto, list[str]]:
    """The model with every input static, and what was decided.

    `shapes` gives whole shapes by input name; a leading symbolic batch that nobody fixed becomes 1.
    Raises `ExportError` for an unknown input, a rank or fixed size that differs, or a symbolic
    dimension left.
    """
    known = {value.name: dimensions(value) for value in real_inputs(model)}
    sizes: dict[str, int] = {}
    notes: list[str] = []
    for name, wanted in shapes.items():
        if name not in known:
            msg = f"a shape is given for input {name!r}; the model's inputs are {', '.join(known)}"
            raise ExportError(msg, hint="Name one of them.")
        _match(name, known[name], tuple(wanted), sizes)
    for name, found in known.items():
        if name not in shapes and found and isinstance(found[0], str):
            if found[0] not in sizes:
                notes.append(f"symbolic batch {found[0]!r} of {name} fixed to 1")
            if found[0] != UNKNOWN:
                sizes.setdefault(found[0], 1)
    if all(isinstance(d, int) for found in known.values() for d in found):
        return model, notes
    return _static(model, shapes, sizes), notes


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes that can be inferred; as it is where inference fails."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model


def _static(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> onnx.ModelProto:
    """A copy with whole shapes by input, else sizes by symbol, in place of the symbols."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for value in real_inputs(result):
        found, wanted = dimensions(value), tuple(shapes.get(value.name, ()))
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            if isinstance(found[i], int):
                continue
            batch = 1 if i == 0 else None
            size = wanted[i] if wanted else sizes.get(str(found[i]), batch)
            if size is None:
                msg = f"input {value.name!r} has a symbolic dimension: {_shown(found)}"
                example = ",".join(str(d) if isinstance(d, int) else "N" for d in found)
                raise ExportError(msg, hint=f"Give it: --shape {value.name}={example}")
            dim.dim_value = size
    del result.graph.value_info[:]  # the shapes written for the symbolic model no longer hold
    for output in result.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
            elif dim.dim_value < 1:
                dim.Clear()
    return with_shapes(result)


def _shown(shape: Sequence[int | str]) -> str:
    return "(" + ", ".join(str(d) for d in shape) + ")"


def _match(
    name: str, found: tuple[int | str, ...], wanted: tuple[int, ...], fixed: dict[str, int]
) -> None:
    fits = len(found) == len(wanted) and all(
        isinstance(f, str) or f == w for f, w in zip(found, wanted, strict=True)
    )
    if not fits:
        msg = (
            f"input {name!r} of the model is {_shown(found)}, the shape asked for {_shown(wanted)}"
        )
        hint = "Correct the shape."
        if len(found) == len(wanted) == 4 and sorted(map(str, found)) == sorted(map(str, wanted)):
            hint = "The layout differs (NCHW or NHWC): give the shape in the model's own order."
        raise ExportError(msg, hint=hint)
    for f, w in zip(found, wanted, strict=True):
        if isinstance(f, str) and f != UNKNOWN:
            fixed[f] = w
