"""esp-ppq's quantized graph: written as a device's model file, kept as data, and made of it again.

Shared by the compiler's child process and the emulator; imports esp-ppq, and is no program itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from esp_ppq.api.espdl_interface import generate_test_value
from esp_ppq.core import (
    DataType,
    NetworkFramework,
    OperationQuantizationConfig,
    QuantizationPolicy,
    QuantizationStates,
    QuantizationVisibility,
    RoundingPolicy,
    TargetPlatform,
    TensorQuantizationConfig,
)
from esp_ppq.executor import TorchExecutor
from esp_ppq.IR import BaseGraph, Operation, Variable
from esp_ppq.IR.base.graph import Opset
from esp_ppq.IR.quantize import QuantableOperation, QuantableVariable
from esp_ppq.log import NaiveLogger
from esp_ppq.parser.espdl.espdl_typedef import ExporterPatternInfo
from esp_ppq.parser.espdl.FlatBuffers.Dl.Model import Model
from esp_ppq.parser.espdl.FlatBuffers.Dl.TensorDataType import TensorDataType
from esp_ppq.parser.espdl.FlatBuffers.Dl.TensorTypeAndShape import TensorTypeAndShape
from esp_ppq.parser.espdl_exporter import EspdlExporter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Table = dict[str, Any]
Value = Any  # what a node may hold as an attribute
FORMAT = 1
FLOAT_BITS = 24
# what the executor computes in double
IN_DOUBLE = {
    TargetPlatform.ESPDL_H_PRE_INT16,
    TargetPlatform.ESPDL_S3_H_PRE_INT16,
    TargetPlatform.ESPDL_C_H_PRE_INT16,
}
# ahead of the flatbuffer in an EDL2 file
HEADER_BYTES = 16
BITS = {TensorDataType.INT8: 8, TensorDataType.INT16: 16}
ROUNDING = {RoundingPolicy.ROUND_HALF_UP: "half_up", RoundingPolicy.ROUND_HALF_EVEN: "half_even"}
# operators that only move values, and those that end a stretch of float
MOVES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
ENDS = {"QuantizeLinear", "RequantizeLinear", "DequantizeLinear"}
# it tells of each constant that it is none to be quantized
NaiveLogger.get_logger("ESPDL").set_level("warning")


class FloatIslands(Exception):
    """Nodes that the exported model would compute in float: `nodes` of (name, operator)."""

    def __init__(self, nodes: list[tuple[str, str]]) -> None:
        super().__init__(", ".join(f"{name} ({operator})" for name, operator in nodes))
        self.nodes = nodes


class Exporter(EspdlExporter):  # type: ignore[misc]
    """esp-ppq's exporter, which adds the layout of inputs and outputs and finds float islands.

    The layout is known only once the exporter has moved the graph to the chip's own. It may also
    drop a last transpose, so that an output goes by the name of the tensor before it.
    """

    def export_graph(self, graph: BaseGraph, **arguments: Any) -> bytes:
        islands = [
            (op.name, op.type)
            for op in graph.topological_sort()
            if op.type not in MOVES | ENDS
            and any(v.dtype == DataType.FP32 and not v.is_parameter for v in op.inputs if v.name)
        ]
        if islands:
            raise FloatIslands(islands)
        layout = {
            "inputs": self.described(graph, graph.inputs, "inputs"),
            "outputs": self.described(graph, graph.outputs, "outputs"),
            "rounding": rounding_of(graph),
        }
        metadata = {"edgedeploy": json.dumps(layout), **self.metadata}
        arguments |= {"metadata_props": metadata, "values_for_test": self.vectors}
        exported: bytes = super().export_graph(graph=graph, **arguments)
        return exported

    def described(self, graph: BaseGraph, ends: Table, kind: str) -> list[Table]:
        """Name, shape and axes of the device's inputs or outputs, in the device's own order."""
        rows = []
        for name in (name for name in graph.variables if name in ends):
            perm = ExporterPatternInfo().get_var_permute(name)
            known, value = name, self.vectors[kind].get(name)
            if value is None:
                known, value, perm = self.renamed(name, perm, ends)
            shape = list(value.shape)
            if not perm or len(perm) != len(shape) or perm == sorted(perm):
                perm = None
            rows.append({"name": known, "dtype": "float32", "shape": shape, "perm": perm})
        return rows

    def renamed(self, name: str, perm: list[int], ends: Table) -> tuple[str, torch.Tensor, None]:
        """The output that this tensor, as the device holds it, is; both take its place."""
        (value,) = TorchExecutor(graph=self.source, device="cpu").forward(
            inputs=list(self.vectors["inputs"].values()), output_names=[name]
        )
        held = value.permute(perm) if perm else value
        for known, wanted in self.vectors["outputs"].items():
            if known not in ends and wanted.shape == held.shape and torch.equal(wanted, held):
                self.vectors["outputs"] = {
                    name if key == known else key: value if key == known else other
                    for key, other in self.vectors["outputs"].items()
                }
                return known, wanted, None
        msg = f"the exported model's output {name!r} is none of the graph's"
        raise RuntimeError(msg)


def write(graph: BaseGraph, first: list[torch.Tensor], mlperf: str, path: Path, text: bool) -> None:
    """Export for the device, with `first` and what becomes of it as test vectors.

    `text` asks for the readable `.info` and `.json` beside it. Raises `FloatIslands`.
    """
    exporter = Exporter()  # there is but one
    exporter.source = graph
    exporter.vectors = generate_test_value(graph, "cpu", first)
    exporter.metadata = {"mlperf": mlperf} if mlperf else {}
    try:
        exporter.export(file_path=str(path), graph=graph, export_config=text)
    finally:
        exporter.__dict__.clear()
        ExporterPatternInfo().reset()


def exact_biases(graph: BaseGraph) -> None:
    """Keep biases of more than 24 bits in double: in float32 half a step added is lost or a step.

    The simulator would then add another bias than the file holds.
    """
    for op in graph.operations.values():
        if not isinstance(op, QuantableOperation):
            continue
        configs = op.config.input_quantization_config
        for variable, config in zip(op.inputs, configs, strict=False):
            wide = config.num_of_bits > FLOAT_BITS and op.platform in IN_DOUBLE
            if wide and variable.is_parameter and isinstance(variable.value, torch.Tensor):
                variable.value = variable.value.double()


def as_held(
    graph: BaseGraph, first: list[torch.Tensor], exported: Path
) -> list[torch.Tensor] | None:
    """The sample as the device holds it, where a layer rounds an input anew; else None.

    Such an input has several scales in the graph and one in the file: the vectors embedded there
    must come from what the device is given.
    """
    if not any(len(scales_of(variable)) > 1 for variable in graph.inputs.values()):
        return None
    steps = steps_of_inputs(exported)
    half_up = rounding_of(graph) == "half_up"
    held = []
    for name, value in zip(graph.inputs, first, strict=True):
        if name not in steps:
            held.append(value)
            continue
        step, low, high = steps[name]
        scaled = value.double() / step
        whole = torch.floor(scaled + 0.5) if half_up else torch.round(scaled)
        held.append((whole.clamp(low, high) * step).to(value.dtype))
    return held


def scales_of(variable: Variable) -> set[float]:
    """The scales by which the layers that read a variable round it."""
    configs = [
        op.config.input_quantization_config[op.inputs.index(variable)]
        for op in variable.dest_ops
        if isinstance(op, QuantableOperation)
    ]
    return {float(config.scale) for config in configs if config.scale is not None}


def steps_of_inputs(exported: Path) -> dict[str, tuple[float, int, int]]:
    """By name, the step of each integer input in an exported file, and its least and greatest."""
    graph = Model.GetRootAs(exported.read_bytes()[HEADER_BYTES:], 0).Graph()
    found = {}
    for value in map(graph.Input, range(graph.InputLength())):
        kind, table = TensorTypeAndShape(), value.ValueInfoType().Value()
        kind.Init(table.Bytes, table.Pos)
        if kind.ElemType() in BITS and value.ExponentsLength():
            most = 1 << (BITS[kind.ElemType()] - 1)
            found[value.Name().decode()] = (2.0 ** int(value.Exponents(0)), -most, most - 1)
    return found


def rounding_of(graph: BaseGraph) -> str:
    """How the chip rounds, which is the same in all of a graph."""
    return next(
        ROUNDING[config.rounding]
        for op in graph.operations.values()
        if isinstance(op, QuantableOperation)
        for config in op.config
    )


def store(graph: BaseGraph, first: list[torch.Tensor], mlperf: str, folder: Path) -> None:
    """Keep the graph and the first sample as `graph.json` and `graph.npz`: data, and no code."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}

    def held(array: np.ndarray[Any, Any]) -> str:
        arrays[f"a{len(arrays)}"] = array
        return f"a{len(arrays) - 1}"

    def plain(value: Value) -> Value:
        match value:
            case None | bool() | int() | float() | str():
                kept = value
            case torch.Tensor():
                kept = {"tensor": held(value.detach().cpu().numpy())}
            case np.ndarray() | np.generic():
                kept = {"array": held(np.asarray(value))}
            case DataType():
                kept = {"type": value.value}
            case np.dtype():
                kept = {"dtype": value.str}
            case dict():
                kept = {"table": [[key, plain(item)] for key, item in value.items()]}
            case list() | tuple():
                kept = {type(value).__name__: [plain(item) for item in value]}
            case _:
                msg = f"{value!r} in esp-ppq's graph is of a type that is not kept: {type(value)}"
                raise TypeError(msg)
        return kept

    def config(given: TensorQuantizationConfig) -> Table:
        return {
            "policy": given.policy._policy,
            "rounding": given.rounding.value,
            "num_of_bits": given.num_of_bits,
            "quant_min": given.quant_min,
            "quant_max": given.quant_max,
            "exponent_bits": given.exponent_bits,
            "scale": plain(given.scale),
            "offset": plain(given.offset),
            "channel_axis": given.channel_axis,
            "visibility": given.visibility.value,
            "state": given.state.value,
        }

    operations = [
        {
            "name": op.name,
            "type": op.type,
            "attributes": plain(op.attributes),
            "platform": op.platform.value,
            "opset": [op.opset.domain, op.opset.version],
            "inputs": [v.name for v in op.inputs],
            "outputs": [v.name for v in op.outputs],
            "configs": [
                [config(c) for c in op.config.input_quantization_config],
                [config(c) for c in op.config.output_quantization_config],
            ]
            if isinstance(op, QuantableOperation)
            else None,
        }
        for op in graph.operations.values()
    ]
    variables = [
        {
            "name": v.name,
            "value": plain(v.value) if v.is_parameter else None,
            "parameter": v.is_parameter,
            "shape": plain(v.shape),
            "dtype": v.dtype.value,
            "readers": [op.name for op in v.dest_ops],
            "source": v.source_op.name if v.source_op is not None else None,
            "quantable": isinstance(v, QuantableVariable),
        }
        for v in graph.variables.values()
    ]
    description = {
        "format": FORMAT,
        "name": graph._name,
        "detail": plain(graph._detail),
        "made": [graph._num_of_generated_op, graph._num_of_generated_var],
        "operations": operations,
        "variables": variables,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "first": [plain(tensor) for tensor in first],
        "mlperf": mlperf,
    }
    (folder / "graph.json").write_text(json.dumps(description), encoding="utf-8")
    np.savez_compressed(folder / "graph.npz", allow_pickle=False, **arrays)


def restore(folder: Path) -> tuple[BaseGraph, list[torch.Tensor], str]:
    """The graph that was kept in a folder, its first sample and its MLPerf id."""
    description = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    if description.get("format") != FORMAT:
        msg = f"{folder / 'graph.json'} has format {description.get('format')}, not {FORMAT}"
        raise ValueError(msg)
    with np.load(folder / "graph.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}

    makers: dict[str, Callable[[Value], Value]] = {
        "tensor": lambda key: torch.from_numpy(arrays[key]),
        "array": lambda key: arrays[key],
        "type": DataType,
        "dtype": np.dtype,
        "table": lambda rows: {key: made(item) for key, item in rows},
        "list": lambda items: [made(item) for item in items],
        "tuple": lambda items: tuple(made(item) for item in items),
    }

    def made(value: Value) -> Value:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        return makers[kind](content)

    def config(given: Table) -> TensorQuantizationConfig:
        return TensorQuantizationConfig(
            **given
            | {
                "policy": QuantizationPolicy(given["policy"]),
                "rounding": RoundingPolicy(given["rounding"]),
                "visibility": QuantizationVisibility(given["visibility"]),
                "state": QuantizationStates(given["state"]),
                "scale": made(given["scale"]),
                "offset": made(given["offset"]),
            }
        )

    graph = BaseGraph(name=description["name"], built_from=NetworkFramework.ONNX)
    graph._detail = made(description["detail"])
    graph._num_of_generated_op, graph._num_of_generated_var = description["made"]
    for row in description["variables"]:
        variable = Variable(
            name=row["name"],
            value=made(row["value"]),
            is_parameter=row["parameter"],
            shape=made(row["shape"]),
            dtype=DataType(row["dtype"]),
        )
        quantable = row["quantable"]
        graph.variables[row["name"]] = QuantableVariable(variable) if quantable else variable
    for row in description["operations"]:
        op = Operation(
            name=row["name"],
            op_type=row["type"],
            attributes=made(row["attributes"]),
            platform=TargetPlatform(row["platform"]),
            inputs=[graph.variables[name] for name in row["inputs"]],
            outputs=[graph.variables[name] for name in row["outputs"]],
            opset=Opset(*row["opset"]),
        )
        if row["configs"]:
            read, written = ([config(c) for c in side] for side in row["configs"])
            op = QuantableOperation(op, OperationQuantizationConfig(read, written), op.platform)
        graph.operations[row["name"]] = op
    for row in description["variables"]:
        variable = graph.variables[row["name"]]
        variable.dest_ops.extend(graph.operations[name] for name in row["readers"])
        variable.source_op = graph.operations.get(row["source"])
    graph.inputs.update((name, graph.variables[name]) for name in description["inputs"])
    graph.outputs.update((name, graph.variables[name]) for name in description["outputs"])
    first = [made(tensor) for tensor in description["first"]]
    return graph, first, description["mlperf"]
