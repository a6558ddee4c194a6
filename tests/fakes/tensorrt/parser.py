"""The ONNX parser: a model into a network, or errors by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorrt.checks import UNSUPPORTED, Refusal, check_import, check_operator
from tensorrt.enums import DataType, ErrorCode, LayerType, OnnxParserFlag
from tensorrt.log import ILogger, emit
from tensorrt.network import ONNX_TYPES, ILayer, INetworkDefinition, ITensor, tensor_of
from tensorrt.strict import Bound, arguments

LAYERS = {
    **{"Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "Gemm": "MATRIX_MULTIPLY"},
    **{"MatMul": "MATRIX_MULTIPLY", "Relu": "ACTIVATION", "Sigmoid": "ACTIVATION"},
    **{
        "Clip": "ACTIVATION",
        "MaxPool": "POOLING",
        "AveragePool": "POOLING",
        "Concat": "CONCATENATION",
    },
    **{"GlobalAveragePool": "REDUCE", "ReduceMean": "REDUCE", "Softmax": "SOFTMAX"},
    **{"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE", "Cast": "CAST"},
    **{"Reshape": "SHUFFLE", "Flatten": "SHUFFLE", "Transpose": "SHUFFLE", "Resize": "RESIZE"},
    **{"Identity": "IDENTITY", "Constant": "CONSTANT", "Slice": "SLICE", "Gather": "GATHER"},
    **{"BatchNormalization": "SCALE", "LayerNormalization": "NORMALIZATION", "TopK": "TOPK"},
}


class ParserError(Bound):
    """What is wrong with which node."""

    def __init__(self, number: int, node: Any, fault: Refusal) -> None:
        self._number, self._node, self._fault = number, node, fault

    def code(self) -> Any:
        return ErrorCode[self._fault.code]

    def desc(self) -> str:
        return self._fault.desc

    def file(self) -> str:
        return self._fault.file

    def line(self) -> int:
        return self._fault.line

    def func(self) -> str:
        return self._fault.func

    def node(self) -> int:
        return self._number

    def node_name(self) -> str:
        return self._node.name if self._node is not None else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node is not None else ""

    def local_function_stack(self) -> list[str]:
        return []

    def __str__(self) -> str:
        where = f" with name: {self.node_name()} and operator: {self.node_operator()}"
        return f"In node {self._number}{where} ({self.func()}): {self._fault.code}: {self.desc()}"

    __repr__ = __str__


class OnnxParser(Bound):
    """Fills one network, once."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        arguments("__init__", (network, INetworkDefinition), (logger, ILogger))
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []
        self._groups: list[tuple[bool, list[int]]] = []
        self._flags = 1 << int(OnnxParserFlag.NATIVE_INSTANCENORM)

    num_errors = property(lambda self: len(self._errors))
    num_subgraphs = property(lambda self: len(self._groups))
    flags = property(
        lambda self: self._flags, lambda self, value: setattr(self, "_flags", int(value))
    )

    def get_error(self, index: int) -> ParserError | None:
        return self._errors[index] if 0 <= index < len(self._errors) else None

    def clear_errors(self) -> None:
        self._errors.clear()

    def is_subgraph_supported(self, index: int) -> bool:
        return self._groups[index][0]

    def get_subgraph_nodes(self, index: int) -> list[int]:
        return self._groups[index][1]

    def supports_operator(self, op_name: str) -> bool:
        return op_name not in UNSUPPORTED

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        if not path.is_file():
            emit(
                self._logger,
                "ERROR",
                f"ModelImporter.cpp:914: Failed to parse ONNX model from file: {model}!",
            )
            return False
        return self.parse(path.read_bytes(), str(path))

    def supports_model_v2(self, model: bytes, path: str | None = None) -> bool:
        """Parses into the network it has: another one is needed to parse afterwards."""
        return self.parse(model, path)

    def parse(self, model: bytes, path: str | None = None) -> bool:
        if self._network.num_layers:
            text = "ModelImporter.cpp:1170: Parse was called with a non-empty network definition"
            emit(self._logger, "ERROR", text)
            return False
        proto = loaded(bytes(model), path)
        if proto is None:
            emit(self._logger, "ERROR", "Failed to parse ONNX model: it is no protocol buffer")
            return False
        self._tell(proto)
        return self._taken(proto)

    def _tell(self, proto: Any) -> None:
        opset = max([each.version for each in proto.opset_import if not each.domain] or [0])
        line = "-" * 64
        rows = {
            "ONNX IR version:  ": f"0.0.{proto.ir_version}",
            "Opset version:    ": opset,
            "Producer name:    ": proto.producer_name,
        }
        texts = [line, *(f"{key}{value}" for key, value in rows.items()), line]
        for text in texts:
            emit(self._logger, "INFO", text)

    def _taken(self, proto: Any) -> bool:
        from onnx import numpy_helper

        types, constants = known(proto)
        arrays = {name: numpy_helper.to_array(each) for name, each in constants.items()}
        network = self._network
        faulty = self._refused(proto.graph.node, check_operator, every=True)

        def imported(node: Any) -> None:
            check_import(node, types, arrays, strong=network._strongly_typed)

        if not faulty:
            faulty = self._refused(proto.graph.node, imported, every=False)
        for node in proto.graph.node:
            kind = LayerType[LAYERS.get(node.op_type, "ELEMENTWISE")]
            outputs = [
                ITensor(
                    name, DataType[ONNX_TYPES.get(types.get(name, 0), "FLOAT")], (), entry=False
                )
                for name in node.output
            ]
            network._layers.append(ILayer(node.name or node.output[0], kind, outputs))
        self._groups = grouped(len(proto.graph.node), faulty)
        if faulty:
            return False
        given = set(constants)
        network._inputs = [
            tensor_of(each, entry=True) for each in proto.graph.input if each.name not in given
        ]
        network._outputs = [tensor_of(each, entry=False) for each in proto.graph.output]
        network._model, network._bytes = proto, proto.SerializeToString()
        network.name = proto.graph.name
        return True

    def _refused(self, nodes: Any, check: Any, *, every: bool) -> set[int]:
        """The numbers of nodes that a check refuses; the first one alone unless `every`."""
        found = set()
        for number, node in enumerate(nodes):
            try:
                check(node)
            except Refusal as fault:
                found.add(number)
                self._errors.append(ParserError(number, node, fault))
                self._report(number, node, fault)
                if not every:
                    break
        return found

    def _report(self, number: int, node: Any, fault: Refusal) -> None:
        for text in (
            f'ModelImporter.cpp:140: While parsing node number {number} [{node.op_type} -> "'
            f'{node.output[0]}"]:',
            f"ModelImporter.cpp:142: --- Begin node ---\nNode name: {node.name}",
            "ModelImporter.cpp:143: --- End node ---",
            f"ModelImporter.cpp:151: ERROR: {fault.file}:{fault.line} In function {fault.func}:\n"
            f"[{int(ErrorCode[fault.code])}] {fault.desc}",
        ):
            emit(self._logger, "ERROR", text)


def loaded(data: bytes, path: str | None) -> Any:
    """The ONNX model of these bytes, weights that lie beside `path` read in; None: it is none."""
    import onnx
    from google.protobuf.message import DecodeError

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        return None
    if path:
        onnx.load_external_data_for_model(proto, str(Path(path).parent))
    return proto


def known(proto: Any) -> tuple[dict[str, int], dict[str, Any]]:
    """ONNX types of the tensors, and the constants among them."""
    import onnx

    domains = {each.domain for each in proto.opset_import}
    if all(node.domain in domains for node in proto.graph.node):
        proto.CopyFrom(onnx.shape_inference.infer_shapes(proto))
    graph = proto.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    types = {each.name: each.type.tensor_type.elem_type for each in values}
    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    types.update({name: each.data_type for name, each in constants.items()})
    return types, constants


def grouped(count: int, faulty: set[int]) -> list[tuple[bool, list[int]]]:
    """Runs of nodes that can be taken and that cannot."""
    if not faulty:
        return [(True, list(range(count)))]
    groups: list[tuple[bool, list[int]]] = []
    for number in range(count):
        fine = number not in faulty
        if groups and groups[-1][0] == fine:
            groups[-1][1].append(number)
        else:
            groups.append((fine, [number]))
    return groups
