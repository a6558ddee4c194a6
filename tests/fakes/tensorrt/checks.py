"""What the parser refuses, by node: operators, zero points, types that do not meet."""

from __future__ import annotations

from typing import Any

from tensorrt.enums import OLD

# docs/operators.md of onnx-tensorrt, branch 10.1-GA: the rows with N
UNSUPPORTED = frozenset(
    (
        *("AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"),
        *("BitwiseXor", "BlackmanWindow", "CenterCropPad", "Col2Im", "Compress"),
        *("ConcatFromSequence", "ConvInteger", "DFT", "Det", "DynamicQuantizeLinear"),
        *("HammingWindow", "HannWindow", "ImageDecoder", "MatMulInteger", "MaxRoiPool"),
        *("MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional"),
        *("OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul"),
        *("RegexFullMatch", "STFT", "SequenceAt", "SequenceConstruct", "SequenceEmpty"),
        *("SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
        *("SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat", "StringNormalizer"),
        *("StringSplit", "TfIdfVectorizer", "Unique"),
    )
)
ELEMENTWISE = {"Add": "SUM", "Sub": "SUB", "Mul": "PROD", "Div": "DIV", "Max": "MAX", "Min": "MIN"}
NAMES = {1: "Float", 10: "Half", 16: "BFloat16", 6: "Int32", 7: "Int64", 3: "Int8", 17: "FP8"}
ZERO_POINT = (
    "Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported. Please set"
    " kENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA to enable asymmetric quantization if it is on"
    " DLA."
)
PLUGIN = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'


# kind of refusal -> code, file, line, function, as the parser tells them
PLACES = {
    "plugin": ("INVALID_NODE", "onnxOpCheckers.cpp", 998, "checkFallbackPluginImporter"),
    "operator": ("UNSUPPORTED_NODE", "onnxOpCheckers.cpp", 781, "checkFallbackPluginImporter"),
    "zero point": ("INVALID_NODE", "onnxOpImporters.cpp", 1929, "buildZeroPointTensor"),
    "quantized type": ("INVALID_NODE", "onnxOpImporters.cpp", 1480, "QuantDequantLinearHelper"),
    "types": ("INVALID_NODE", "ModelImporter.cpp", 489, "parseNode"),
}
KINDS = (
    "Assertion failed: (chosenDataType == DataType::kFP8 || chosenDataType == DataType::kINT8 ||"
    " chosenDataType == DataType::kINT4): TensorRT supports only FP8, INT8 and INT4 quantization."
)
TINY = frozenset((2, 3, 17, 22, 23))  # ONNX types of 8 bits and fewer


class Refusal(Exception):
    """An error of the parser about a node: code, text, file, line, function."""

    def __init__(self, desc: str, kind: str, func: str = "") -> None:
        super().__init__(desc)
        self.code, self.file, self.line, named = PLACES[kind]
        self.desc, self.func = desc, func or named


def check_operator(node: Any) -> None:
    """Refuse an operator without an importer: all nodes are looked at before any is imported."""
    if node.domain not in ("", "ai.onnx"):
        raise Refusal(PLUGIN, "plugin")
    if node.op_type in UNSUPPORTED:
        if OLD:
            raise Refusal(PLUGIN, "operator")
        text = "false"
        raise Refusal(text, "operator", f"check{node.op_type}")


def check_import(
    node: Any, types: dict[str, int], constants: dict[str, Any], *, strong: bool
) -> None:
    """Refuse a node as its importer does; `types` are ONNX types by tensor, `constants` arrays."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
        zero = constants.get(node.input[2])
        if zero is not None and zero.astype("float32").any():
            raise Refusal(ZERO_POINT, "zero point")
        if types.get(node.input[2], 3) not in TINY:
            raise Refusal(KINDS, "quantized type")
    if node.op_type in ELEMENTWISE and strong:
        elementwise(node, [types.get(name, 0) for name in node.input])


def elementwise(node: Any, kinds: list[int]) -> None:
    """Refuse two types in one operation: a strongly typed network inserts no casts."""
    known = [kind for kind in kinds if kind in NAMES]
    if len(set(known)) < 2:
        return
    label = node.name or node.output[0]
    pair = f"{NAMES[known[0]]} and {NAMES[known[1]]}"
    desc = (
        f"Invalid Node - {label}\nITensor::getDimensions: Error Code 4: API Usage Error ({label}:"
        f" ElementWiseOperation {ELEMENTWISE[node.op_type]} must have same input types. But they"
        f" are of types {pair}.)"
    )
    raise Refusal(desc, "types")
