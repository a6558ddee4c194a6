"""Which ONNX operators become layers, of what type, and which merge into the layer before."""

ACTIVATIONS = {
    "Clip",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "Exp",
    "Sqrt",
    "Log",
    "Abs",
}
# values pass through unchanged, so they keep the scale of what they take
MOVES = {"maxpool", "slice", "external_pad", "shuffle", "depth_to_space", "space_to_depth"}
TAKES_ACTIVATION = {"conv", "dw", "deconv", "fc", "ew_add", "ew_sub", "ew_mult", "batch_norm"}
PASSES = {"Identity", "Dropout"}
LAYERS = {
    "Conv": "conv",
    "ConvTranspose": "deconv",
    "Gemm": "fc",
    "MatMul": "fc",
    "BatchNormalization": "batch_norm",
    "MaxPool": "maxpool",
    "GlobalMaxPool": "maxpool",
    "AveragePool": "avgpool",
    "GlobalAveragePool": "avgpool",
    "ReduceMean": "avgpool",
    "ReduceMax": "reduce_max",
    "ReduceSum": "reduce_sum",
    "Add": "ew_add",
    "Sub": "ew_sub",
    "Mul": "ew_mult",
    "Div": "ew_div",
    "Min": "ew_min",
    "Max": "ew_max",
    "Concat": "concat",
    "Slice": "slice",
    "Split": "slice",
    "Pad": "external_pad",
    "Resize": "resize",
    "Upsample": "resize",
    "Softmax": "softmax",
    "ArgMax": "argmax",
    "DepthToSpace": "depth_to_space",
    "SpaceToDepth": "space_to_depth",
    "LayerNormalization": "layer_normalization",
    "InstanceNormalization": "instance_normalization",
}
SHUFFLES = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"}
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def refusal(node, shapes, constants):
    """Why a node is no layer, as the parser says it; empty where it is one.

    `shapes` are the ONNX shapes of all values by name, `constants` the values that are known.
    """
    op, label = node.op_type, node.name or node.output[0]
    taken = [name for name in node.input if name and name not in constants]
    if op not in LAYERS and op not in SHUFFLES | ACTIVATIONS | PASSES:
        return f"UnsupportedOperationError in op {label}: {op} operation is unsupported"
    if op in SHUFFLES:
        before, after = shapes.get(node.input[0], []), shapes.get(node.output[0], [])
        flat = len(before) in {2, 4} and len(after) == 2 and after[0] == before[0]
        if op == "Transpose" or not flat:
            why = f"Failed to determine type of layer to create in node {label}"
            return f"UnsupportedShuffleLayerError in op {label}: {why}"
    computed = op == "MatMul" and len(shapes.get(node.input[1], [])) == 4
    open_weights = any(name not in constants for name in node.input[1:] if name)
    if op in WEIGHTED and open_weights and not computed:
        why = f"Unexpected node {label} ({op})"
        return f"UnexpectedNodeError in op {label}: {why}, its weights are not constant"
    if op in {"Softmax", "ArgMax"} and _axis(node) not in {1, -1 if op == "Softmax" else 1}:
        why = f"Failed to create {op.lower()} layer at vertex {label}"
        return f"UnsupportedFeatureError in op {label}: {why}. Only the features axis is supported"
    for name in [*taken, *node.output[:1]]:
        shape = shapes.get(name)
        if shape is None or len(shape) not in {2, 4} or any(size is None for size in shape):
            kind = LAYERS.get(op, "activation")
            why = f"{len(shape or [])}D form is not supported in layer {label} of type {kind}"
            return f"UnsupportedModelError in op {label}: {why}"
    return ""


def _axis(node):
    return next((a.i for a in node.attribute if a.name == "axis"), -1)


def layer_type(node, shapes, constants):
    """The type of layer of a node that starts one."""
    op = node.op_type
    if op == "Conv":
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        return "dw" if group > 1 and group == shapes[node.input[0]][1] else "conv"
    if op in SHUFFLES:
        return "shuffle"
    if op == "MatMul" and node.input[1] not in constants:
        return "matmul"
    return LAYERS.get(op, "activation")
