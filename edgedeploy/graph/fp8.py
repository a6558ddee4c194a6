"""Symmetric int8 Q/DQ graphs with 8-bit floats in place of the integers."""

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, version_converter

from edgedeploy.errors import UnsupportedError
from edgedeploy.graph.links import Links, keep_nodes, label, needed
from edgedeploy.graph.qdq import PAIRS, channel_axis, check_qdq, small_kind
from edgedeploy.graph.read import opset_of
from edgedeploy.graph.shapes import with_shapes
from edgedeploy.graph.weights import external

Array = NDArray[np.generic]
Exact = NDArray[np.float64]
FP8, E4M3 = TensorProto.FLOAT8E4M3FN, np.dtype(ml_dtypes.float8_e4m3fn)
# the first operator set whose Q/DQ know 8-bit floats
FP8_OPSET = 19
# the largest numbers of symmetric int8 and of float8 E4M3: one range, two scales
INT8_LARGEST, FP8_LARGEST = 127.0, 448.0
# what the quantizer adds to the name of a weight
QUANTIZED = "_quantized"
HINT = (
    "Quantize symmetrically and without biases: activation = 'qint8', symmetric_activation = true,"
    " quantize_bias = false."
)


def to_fp8(
    model: onnx.ModelProto, floats: onnx.ModelProto | None = None
) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of a symmetric int8 Q/DQ graph with float8 E4M3 in place of int8, and notes.

    The ranges stay: scale' = scale * 127 / 448, as 448 is the largest number of E4M3. Weights are
    rounded from the values that the integers stand for, or from those of the `floats` model where
    it has a weight of that name within a step of them. The operator set becomes 19 where it is
    older. Raises `UnsupportedError` naming what `check_qdq` finds, an integer that another operator
    than DequantizeLinear takes, and weights kept in files.
    """
    refused = check_qdq(model)
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        msg = f"fp8 cannot be made of {refused[0]}{more}"
        raise UnsupportedError(msg, hint=HINT)
    if external(model):
        msg = f"weight {external(model)[0].name!r} is kept in a file: fp8 is not made of it"
        raise UnsupportedError(msg, hint="Take a precision of floats for a model this large.")
    result, notes = _at_fp8_opset(model)
    change = _Change(result, floats)
    pairs = [node for node in change.links.nodes if node.op_type in PAIRS]
    kinds = [small_kind(node, change.links) for node in pairs]  # before any of them changes
    for node, kind in zip(pairs, kinds, strict=True):
        if kind == TensorProto.INT8:
            change.pair(node)
    return with_shapes(change.finished()), [*notes, *change.notes()]


class _Change:
    """The edits of one graph, in place."""

    def __init__(self, model: onnx.ModelProto, floats: onnx.ModelProto | None) -> None:
        self.model, self.links = model, Links(model)
        self.floats = Links(floats) if floats is not None else None
        self.outputs = {value.name for value in model.graph.output}
        # by name and kind of what was there: the tensor in its place
        self.made: dict[tuple[str, str], onnx.TensorProto] = {}
        self.names = {*self.links.maker, *self.links.users, *self.links.weights}
        self.quantized: set[str] = set()
        self.activations = self.weights = self.from_floats = 0

    def pair(self, node: onnx.NodeProto) -> None:
        """Give a Q or DQ node its new scale, zero point and type, and a DQ its new weight."""
        scale = _scale(node, self.links)
        narrow = (scale.astype(np.float64) * INT8_LARGEST / FP8_LARGEST).astype(scale.dtype)
        held = self.links.constant(node.input[0])
        if node.op_type == "QuantizeLinear":
            self.activations += held is None
            self.weights += held is not None
            self._only_dequantized(node.output[0])
        elif held is not None:
            self._only_dequantized(node.input[0])
            node.input[0] = self._weight(node, held, scale, narrow)
        elif self.links.node_of(node.input[0], "QuantizeLinear") is None:
            msg = f"fp8: DequantizeLinear {label(node)!r} takes integers that are no constant"
            raise UnsupportedError(msg, hint="Put Q/DQ pairs around floats only.")
        if len(node.input) > 2 and node.input[2]:
            zeros = np.zeros(scale.shape, E4M3)
            node.input[2] = self._tensor(node.input[2], "zero point", zeros, FP8)
        kind = helper.np_dtype_to_tensor_dtype(scale.dtype)
        node.input[1] = self._tensor(node.input[1], "scale", narrow, kind)
        for entry in node.attribute:
            if entry.name == "output_dtype" and entry.i == TensorProto.INT8:
                entry.i = FP8

    def finished(self) -> onnx.ModelProto:
        """The model, without what the new tensors replaced."""
        self.model.graph.initializer.extend(self.made.values())
        for value in self.model.graph.value_info:
            if value.name in self.quantized:
                value.type.tensor_type.elem_type = FP8
        keep_nodes(self.model, needed(self.links.nodes, self.outputs))
        return self.model

    def notes(self) -> list[str]:
        told = f"{self.activations} activations and {self.weights} weights"
        exact = f", {self.from_floats} of these from their floats" if self.from_floats else ""
        return [f"float8 E4M3 in the place of int8: {told}{exact}"]

    def _only_dequantized(self, name: str) -> None:
        self.quantized.add(name)
        for index in self.links.users.get(name, []):
            user = self.links.nodes[index]
            if user.op_type != "DequantizeLinear":
                msg = f"fp8: {user.op_type} {label(user)!r} takes the integers {name!r}"
                raise UnsupportedError(msg, hint="Put Q/DQ pairs around floats only.")
        if name in self.outputs:
            msg = f"fp8: the integers {name!r} are an output of the model"
            raise UnsupportedError(msg, hint="Let DequantizeLinear be the last node.")

    def _weight(self, node: onnx.NodeProto, integers: Array, scale: Array, narrow: Array) -> str:
        key = str(node.input[0]), f"with {node.input[1]}"
        if key not in self.made:
            step = _along(scale, node, integers.ndim)
            value = integers.astype(np.float64) * step
            exact = self._float_weight(key[0], value, step)
            self.weights += 1
            self.from_floats += exact is not None
            ratio = (value if exact is None else exact) / _along(narrow, node, integers.ndim)
            self._tensor(*key, np.clip(ratio, -FP8_LARGEST, FP8_LARGEST).astype(E4M3), FP8)
        return str(self.made[key].name)

    def _float_weight(self, name: str, value: Exact, step: Exact) -> Exact | None:
        """The float weight that integers of this name stand for, each within a step of them."""
        if self.floats is None or not name.endswith(QUANTIZED):
            return None
        found = self.floats.constant(name.removesuffix(QUANTIZED))
        if found is None or found.shape != value.shape:
            return None
        exact = found.astype(np.float64)
        return exact if (np.abs(exact - value) <= step).all() else None

    def _tensor(self, name: str, key: str, array: Array, kind: int) -> str:
        """The name of the tensor that takes the place of one of this name."""
        if (name, key) not in self.made:
            stem = f"{name}_fp8"
            while stem in self.names:
                stem += "_"
            self.names.add(stem)
            data = np.ascontiguousarray(array).tobytes()
            self.made[name, key] = helper.make_tensor(stem, kind, array.shape, data, raw=True)
        return str(self.made[name, key].name)


def _scale(node: onnx.NodeProto, links: Links) -> Array:
    scale = links.constant(node.input[1])
    if scale is None:
        msg = f"the scale of {node.op_type} {label(node)!r} is computed"
        raise UnsupportedError(msg, hint=HINT)
    return scale


def _along(scale: Array, node: onnx.NodeProto, rank: int) -> Exact:
    """A scale as it multiplies an array of `rank` axes."""
    if scale.size == 1 or rank == 0:
        return scale.reshape(()).astype(np.float64)
    shape = [1] * rank
    shape[channel_axis(node, rank)] = scale.size
    return scale.reshape(shape).astype(np.float64)


def _at_fp8_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy at an operator set that has float8, and what that took."""
    found = opset_of(model)
    notes = []
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if found < FP8_OPSET:
        try:
            result = version_converter.convert_version(model, FP8_OPSET)
        except Exception as err:  # the converter raises whatever C++ does
            reason = next(iter(str(err).strip().splitlines()), type(err).__name__)[:120]
            msg = (
                f"fp8 needs opset {FP8_OPSET}; the model is not convertible from {found}: {reason}"
            )
            raise UnsupportedError(msg, hint=f"Export it with opset {FP8_OPSET}.") from err
        notes = [f"opset raised from {found} to {opset_of(result)}"]
    newest = helper.find_min_ir_version_for(list(result.opset_import), ignore_unknown=True)
    result.ir_version = max(result.ir_version, newest)
    return result, notes
