"""What an engine of a network would hold: layers after fusion, bytes, what the GPU cannot do."""

from __future__ import annotations

from typing import Any

from tensorrt.enums import ProfilingVerbosity

FUSED = frozenset(("Relu", "Clip", "BatchNormalization", "Sigmoid", "LeakyRelu", "Identity"))
HEADS = frozenset(("Conv", "Gemm", "MatMul", "Add", "Mul", "ConvTranspose"))
NOTHING = frozenset(("Constant", "QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten"))
KINDS = {"Conv": "CaskConvolution", "Gemm": "gemm", "MatMul": "gemm", "MaxPool": "CaskPooling"}
SIZES = {1: 4, 10: 2, 16: 2, 3: 1, 2: 1, 17: 1, 6: 4, 7: 8, 9: 1}
LABELS = {1: "FP32", 10: "FP16", 16: "BF16", 3: "Int8", 6: "Int32", 7: "Int64", 17: "FP8"}


def shapes(model: Any) -> dict[str, tuple[int, list[int]]]:
    """ONNX type and shape of each tensor that is known; 1 where a size is free."""
    graph = model.graph
    found = {}
    for each in [*graph.input, *graph.value_info, *graph.output]:
        kind = each.type.tensor_type
        found[each.name] = (kind.elem_type, [size.dim_value or 1 for size in kind.shape.dim])
    return found


def size_bytes(entry: tuple[int, list[int]]) -> int:
    """Bytes of a tensor of this type and shape."""
    total = SIZES.get(entry[0], 4)
    for size in entry[1]:
        total *= size
    return total


def layers(model: Any) -> list[dict[str, Any]]:
    """The engine's layers: an activation behind a product is part of it, Q/DQ of its neighbours."""
    known = shapes(model)
    uses: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    made: list[dict[str, Any]] = []
    ends: dict[str, dict[str, Any]] = {}
    for node in model.graph.node:
        if node.op_type in NOTHING:
            continue
        label = node.name or node.output[0]
        behind = ends.get(node.input[0]) if node.input else None
        if node.op_type in FUSED and behind is not None and uses.get(node.input[0]) == 1:
            behind["Name"] += f" + {label}"
            behind["nodes"].append(label)
            behind["Outputs"] = [tensor(node.output[0], known)]
            ends[node.output[0]] = behind
            continue
        row = {
            "Name": label,
            "LayerType": KINDS.get(node.op_type, node.op_type),
            "Inputs": [tensor(name, known) for name in node.input if name in known],
            "Outputs": [tensor(name, known) for name in node.output],
            "ParameterType": node.op_type,
            "nodes": [label],
        }
        made.append(row)
        if node.op_type in HEADS:
            ends[node.output[0]] = row
    return made


def tensor(name: str, known: dict[str, tuple[int, list[int]]]) -> dict[str, Any]:
    """A tensor as the inspector tells it."""
    kind, shape = known.get(name, (1, []))
    return {
        "Name": name,
        "Dimensions": shape,
        "Format/Datatype": f"Row major linear {LABELS.get(kind, 'FP32')} format",
    }


def weights_bytes(model: Any) -> int:
    """Bytes of the initializers."""
    return sum(len(each.raw_data) or 4 * len(each.float_data) for each in model.graph.initializer)


def largest(model: Any) -> tuple[str, int]:
    """The node whose output takes the most memory, and its bytes: the workspace of its tactics."""
    known = shapes(model)
    best = ("", 0)
    for node in model.graph.node:
        need = sum(size_bytes(known[name]) for name in node.output if name in known)
        if need > best[1]:
            best = (node.name or node.output[0], need)
    return best


def types(model: Any) -> set[int]:
    """The ONNX types that occur."""
    found = {kind for kind, _ in shapes(model).values()}
    return found | {each.data_type for each in model.graph.initializer}


def verbosity(config: Any) -> str:
    """How much the engine tells of itself, by name."""
    return ProfilingVerbosity(config.profiling_verbosity).name
