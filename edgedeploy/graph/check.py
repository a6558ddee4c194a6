"""Catch exports that look well and are not: constants, dead inputs, symbols, NaN."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from edgedeploy.errors import ExportError
from edgedeploy.graph.read import opset_of, real_inputs
from edgedeploy.graph.shapes import dimensions
from edgedeploy.graph.weights import external, tensors

FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
)


def check_graph(model: onnx.ModelProto, folder: Path) -> None:
    """Raise `ExportError` for the first thing found wrong with a static model.

    `folder` holds the weights that the model keeps in files.
    """
    try:
        if not external(model):
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as err:
        reason = str(err).strip().splitlines()[0]
        msg = f"the model is not valid ONNX (opset {opset_of(model)}): {reason}"
        raise ExportError(msg, hint="Export it again; a graph edit may have broken it.") from err
    inputs = real_inputs(model)
    if not inputs:
        msg = "the model has no input: it is a constant"
        raise ExportError(msg, hint="Export with the input as an argument, not baked in.")
    if not model.graph.output:
        msg = "the model has no output"
        raise ExportError(msg, hint="Export again, returning what you need.")
    for value in [*inputs, *model.graph.output]:
        if value.type.tensor_type.elem_type in {TensorProto.UNDEFINED, TensorProto.STRING}:
            msg = f"{value.name!r} is text or a sequence: tensors of numbers are needed"
            raise ExportError(msg, hint="Cut the model behind what turns text into numbers.")
    for output in model.graph.output:
        if not reached_inputs(model, output.name):
            msg = f"output {output.name!r} depends on no input: the export baked in a constant"
            hint = "Look for Python branches or .item() in forward; try the other exporter."
            raise ExportError(msg, hint=hint)
    for value in inputs:
        if any(isinstance(d, str) for d in dimensions(value)):
            shown = ", ".join(str(d) for d in dimensions(value))
            msg = f"input {value.name!r} keeps a symbolic dimension: ({shown})"
            raise ExportError(msg, hint=f"Give its shape: --shape {value.name}=…")
    _check_weights(model, folder)


def _check_weights(model: onnx.ModelProto, folder: Path) -> None:
    for tensor in tensors(model.graph):
        if tensor.data_type in FLOATS:
            values = numpy_helper.to_array(tensor, str(folder))
            if np.isnan(values).any():
                msg = f"weight {tensor.name!r} holds NaN"
                raise ExportError(msg, hint="The checkpoint is broken, or training diverged.")


def reached_inputs(model: onnx.ModelProto, output: str) -> set[str]:
    """The graph inputs that a value depends on, through control-flow bodies too."""
    producers: dict[str, onnx.NodeProto] = {
        name: node for node in model.graph.node for name in node.output
    }
    names = {value.name for value in real_inputs(model)}
    reached: set[str] = set()
    seen: set[str] = set()
    queue = [output]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in names:
            reached.add(name)
        elif name in producers:
            queue += _consumed(producers[name])
    return reached


def _consumed(node: onnx.NodeProto) -> list[str]:
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        bodies = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        for body in bodies:
            for inner in body.node:
                found += _consumed(inner)
    return found
