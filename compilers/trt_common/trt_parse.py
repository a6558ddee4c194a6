"""An ONNX model -> the builder's network; what its parser refuses is named by node before."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_faults import SYMMETRIC, BadInput, Unsupported

if TYPE_CHECKING:
    from types import ModuleType

    Table = dict[str, Any]
    Thing = Any  # of the library, which is an argument: its classes cannot be named

SHOWN = 3  # faults told one by one
TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
    "FP8": "float8e4m3fn",
    "INT4": "int4",
    "FP4": "float4e2m1fn",
}
# the types that a graph has to hold for a precision, and those that it may not
HOLDS = {"fp16": "float16", "bf16": "bfloat16", "int8": "int8", "fp8": "float8e4m3fn"}
MAKES = {
    "float16": "Convert it first: a target names the precision in `typed`.",
    "bfloat16": "Convert it first: a target names the precision in `typed`.",
    "int8": "Quantize it first; a target with int8 names a `quantizer`.",
    "float8e4m3fn": "Quantize it first; a target with fp8 names a `quantizer`.",
}
# the cause in what the parser says, without where in its sources it arose
WITHIN = re.compile(r"Error Code \d+: (.+?)(?: In \S+ at |\. In | \[checkMacros|$)")
REWRITE = "Rewrite it with other operators, or end the model before it: the rest runs on the host."


class Parsed:
    """A network with the parser that owns its weights; `types` counts the layers' outputs by type.

    `inputs` and `outputs` are {"name", "dtype", "shape"}, -1 where a size is free.
    """

    def __init__(self, network: Thing, parser: Thing) -> None:
        self.network, self.parser = network, parser
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        self.inputs = [described(tensor) for tensor in tensors]
        self.outputs = [described(network.get_output(i)) for i in range(network.num_outputs)]
        self.layers = network.num_layers
        self.types: Counter[str] = Counter()
        for place in range(network.num_layers):
            layer = network.get_layer(place)
            for end in range(layer.num_outputs):
                self.types[dtype(layer.get_output(end).dtype)] += 1


def dtype(kind: Thing) -> str:
    """The library's name of a type as numpy's, or ONNX's where numpy has none."""
    name = str(kind).rpartition(".")[2]
    return TYPES.get(name, name.lower())


def described(tensor: Thing) -> Table:
    """Name, type and shape of a network's end."""
    shape = [int(size) for size in tensor.shape]
    return {"name": tensor.name, "dtype": dtype(tensor.dtype), "shape": shape}


def empty_network(trt: ModuleType, builder: Thing) -> Thing:
    """A strongly typed network; where the library knows no other kind it has no flag for it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return builder.create_network(0 if flag is None else 1 << int(flag))


def parsed(trt: ModuleType, builder: Thing, logger: Thing, model: str) -> Parsed:
    """The network of the model in a file, its external weights beside it.

    The parser is first asked whether it can take the model: each node that it cannot is named.
    Raises `Unsupported`, `BadInput`.
    """
    path = Path(model)
    if not path.is_file():
        msg = f"model {model} does not exist"
        raise BadInput(msg, "Check the path.")
    data = path.read_bytes()
    network = empty_network(trt, builder)  # which has to outlive its parser
    asked = trt.OnnxParser(network, logger)
    # the older answer is a pair of the verdict and the subgraphs
    modern = hasattr(asked, "supports_model_v2")
    able = asked.supports_model_v2(data, model) if modern else asked.supports_model(data, model)[0]
    if not able:
        raise refused(asked, path.name)
    del asked
    network = empty_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data, model):
        raise refused(parser, path.name)
    return Parsed(network, parser)


def refused(parser: Thing, name: str) -> Exception:
    """What the parser's errors mean, by node."""
    errors = [parser.get_error(place) for place in range(parser.num_errors)]
    if any("DESERIALIZE" in str(error.code()) for error in errors) or not errors:
        msg = f"{name} is no ONNX model that the parser can read"
        return BadInput(msg, "Check the export; onnx.checker may tell more.")
    told = list(dict.fromkeys(reason(error) for error in errors))
    listed = "; ".join(told[:SHOWN])
    if len(told) > SHOWN:
        listed += f"; and {len(told) - SHOWN} more"
    quantized = any(place(error)[1] in ("QuantizeLinear", "DequantizeLinear") for error in errors)
    return Unsupported(f"the parser cannot take {listed}", SYMMETRIC if quantized else REWRITE)


def place(error: Thing) -> tuple[str, str]:
    """The name and the operator of the node that an error is about."""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    name = error.node_name() if hasattr(error, "node_name") else ""
    return name or f"number {error.node()}", operator


def reason(error: Thing) -> str:
    """One error of the parser: the node, its operator, and what is wrong with it."""
    name, operator = place(error)
    words = " ".join(str(error.desc()).split())
    code = str(error.code())
    if "Non-zero zero point" in words:
        why = "its zero point is not 0, and quantization has to be symmetric"
    elif "Int32 but must have type" in words and operator == "DequantizeLinear":
        why = "a bias in 32 bits is quantized, and biases have to stay in float"
    elif "Plugin not found" in words or (words == "false" and code.endswith("UNSUPPORTED_NODE")):
        why = "there is no such operator"
    else:
        told = WITHIN.search(words)
        why = (told.group(1) if told else words.replace("Assertion failed: ", ""))[:200]
    return f"node {name!r} ({operator or 'unknown operator'}): {why}"


def check_types(network: Parsed, precision: str, name: str) -> None:
    """Refuse a graph that is not in the precision asked for: a typed network is built as it is."""
    wanted = HOLDS.get(precision)
    if wanted is None:
        others = sorted(kind for kind in HOLDS.values() if network.types[kind])
        if others:
            msg = f"{precision}: {name} computes in {', '.join(others)} in places"
            raise BadInput(msg, "Give the float model, or ask for the precision that it is in.")
    elif not network.types[wanted]:
        what = "no Q/DQ nodes" if wanted in ("int8", "float8e4m3fn") else f"no {wanted} tensor"
        msg = f"{precision}: {name} has {what}, and the compiler does not convert a model by itself"
        raise BadInput(msg, MAKES[wanted])
