"""The parser: an ONNX model becomes a network of layers, or is refused as the real one refuses."""

from collections import Counter

from hailo_sdk_client.model_translator import body, operators
from hailo_sdk_client.model_translator.exceptions import (
    MisspellNodeError,
    ParsingWithRecommendationException,
    UnsupportedModelError,
)
from hailo_sdk_client.model_translator.network import Layer, Network


def translate(model, name, start, end, net_input_shapes):
    """The network of an ONNX model between the start and end nodes, all where None.

    Raises MisspellNodeError, UnsupportedModelError, ParsingWithRecommendationException.
    """
    model = body.with_shapes(model, net_input_shapes)
    graph = model.graph
    constants = body.constants(model)
    nodes = [node for node in graph.node if node.output[0] not in constants]
    shapes = body.shapes(model)
    ends = _tensors(model, nodes, end, "end") if end else [v.name for v in graph.output]
    starts = _starts(model, nodes, start, constants)
    needed = body.needed(nodes, ends, starts, constants)
    errors, behind = [], set()
    for node in needed:
        text = operators.refusal(node, shapes, constants)
        if text:
            errors.append(text)
        if text or behind.intersection(node.input):
            behind.update(node.output)
    if errors:
        _refuse(errors, needed, behind, ends)
    makers = {name: _label(node) for node in needed for name in node.output}
    words = end or [makers.get(name, name) for name in ends]
    labels = dict(zip(ends, words, strict=True))
    made = _Builder(name, shapes, constants, needed, labels)
    inputs = [made.add_input(tensor) for tensor in starts]
    for node in needed:
        made.add(node)
    outputs = made.close(ends)
    part, batchable = body.extract(model, needed, starts, ends, constants)
    return Network(name, made.layers, inputs, outputs, part.SerializeToString(), batchable)


def mapped(network):
    """Original names of inputs and outputs, for the log."""
    inputs = [layer for layer in network.layers if layer.type == "input_layer"]
    outputs = [layer for layer in network.layers if layer.type == "output_layer"]
    starts = ", ".join(f"'{layer.original_names[0]}': '{layer.name}'" for layer in inputs)
    return starts, ", ".join(f"'{layer.original_names[0]}'" for layer in outputs)


def _label(node):
    return node.name or node.output[0]


def _tensors(model, nodes, words, what):
    """The values that nodes of these names make; an output of the graph may be named itself."""
    outputs = {value.name for value in model.graph.output}
    by_name = {_label(node): node.output[0] for node in nodes}
    unknown = [word for word in words if word not in by_name and word not in outputs]
    if unknown or len(set(words)) != len(words):
        text = f"Unable to find {what} node names: {unknown or list(words)}"
        msg = f"{text}, please verify and try again."
        raise MisspellNodeError(msg)
    return [by_name.get(word, word) for word in words]


def _starts(model, nodes, words, constants):
    inputs = [v.name for v in model.graph.input if v.name not in constants]
    if not words:
        return inputs
    by_name = {_label(node): node for node in nodes}
    unknown = [word for word in words if word not in inputs and word not in by_name]
    if unknown:
        text = f"Unable to find start node names: {unknown}"
        msg = f"{text}, please verify and try again."
        raise MisspellNodeError(msg)
    found = []
    for word in words:
        if word in inputs:
            found.append(word)
        else:
            found += [n for n in by_name[word].input if n and n not in constants]
    return list(dict.fromkeys(found))


def _refuse(errors, needed, behind, ends):
    """All that was found, and the last nodes before it where there are some."""
    taken = {name for node in needed if behind.intersection(node.output) for name in node.input}
    last = [
        _label(node)
        for node in needed
        if not behind.intersection(node.output) and taken.union(ends).intersection(node.output)
    ]
    text = "Parsing failed. The errors found in the graph are:\n " + "\n ".join(errors)
    if not last:
        raise UnsupportedModelError(text)
    advice = f"Please try to parse the model again, using these end node names: {', '.join(last)}"
    msg = f"{text}\n{advice}"
    raise ParsingWithRecommendationException(msg)


class _Builder:
    """Layers out of nodes; what merges into the layer before adds its name there."""

    def __init__(self, name, shapes, constants, needed, ends):
        self.name, self.shapes, self.constants, self.ends = name, shapes, constants, ends
        self.layers = []
        self.count = Counter()
        self.of = {}
        self.readers = Counter(n for node in needed for n in node.input)
        self.nodes = needed
        self.merged = set()
        self.waiting = {}

    def new(self, kind, original, inputs, tensor, *, made=(), shape=None):
        self.count[kind] += 1
        shape = shape or self.nhwc(tensor)
        layer = Layer(
            f"{self.name}/{kind}{self.count[kind]}", kind, original, inputs, shape, tensor
        )
        layer.made = list(made)
        self.layers.append(layer)
        self.of[tensor] = layer
        return layer

    def nhwc(self, tensor):
        shape = list(self.shapes[tensor])[1:]
        return [*shape[1:], shape[0]] if len(shape) == 3 else shape

    def add_input(self, tensor):
        shape = self.shapes.get(tensor)
        if shape is None or len(shape) not in {2, 4}:
            text = f"{len(shape or [])}D form is not supported in layer {tensor} of type input"
            msg = f"UnsupportedModelError in op {tensor}: {text}"
            raise UnsupportedModelError(msg)
        inside = self.nhwc(tensor)
        inside = inside if len(inside) == 3 else [1, 1, *inside]
        return self.new("input_layer", [tensor], [], tensor, shape=inside).name

    def add(self, node):
        if node.output[0] in self.merged:
            return
        label, taken = _label(node), [n for n in node.input if n and n not in self.constants]
        before = self.of[taken[0]]
        waiting = self.waiting.get(taken[0], [])
        if self._merges(node, before, taken):
            before.original_names.append(label)
            self._move(before, node.output[0])
            return
        swish = self._swish(node, before)
        if swish is not None:
            before.original_names += [label, _label(swish)]
            before.made.append(node.output[0])
            self.merged.update([node.output[0], swish.output[0]])
            self._move(before, swish.output[0])
            return
        readers = [n for n in self.nodes if node.output[0] in n.input]
        flattens = node.op_type in operators.SHUFFLES and node.output[0] not in self.ends
        if flattens and readers and all(n.op_type in {"Gemm", "MatMul"} for n in readers):
            self.of[node.output[0]] = before
            self.waiting[node.output[0]] = [label]
            before.made.append(node.output[0])
            return
        kind = operators.layer_type(node, self.shapes, self.constants)
        inputs = list(dict.fromkeys(self.of[name].name for name in taken))
        self.new(kind, [*waiting, label], inputs, node.output[0], made=[node.output[0]])
        for extra in node.output[1:]:
            if extra and (self.readers[extra] or extra in self.ends):
                self.new(kind, [label], inputs, extra)

    def _move(self, layer, tensor):
        """The layer's value is now what a node merged into it makes."""
        layer.tensor = tensor
        layer.output_shape = self.nhwc(tensor)
        layer.made.append(tensor)
        self.of[tensor] = layer

    def _merges(self, node, before, taken):
        if before.tensor != taken[0] or taken[0] in self.ends or self.readers[taken[0]] != 1:
            return node.op_type in operators.PASSES
        if node.op_type in operators.PASSES:
            return True
        if node.op_type == "BatchNormalization":
            return before.type in {"conv", "dw", "deconv", "fc"}
        if node.op_type == "Add" and before.type == "fc" and len(taken) == 1:
            return True
        return node.op_type in operators.ACTIVATIONS and before.type in operators.TAKES_ACTIVATION

    def _swish(self, node, before):
        """The Mul of x * Sigmoid(x), where these two alone read x."""
        if node.op_type != "Sigmoid" or before.type not in operators.TAKES_ACTIVATION:
            return None
        given, made = node.input[0], node.output[0]
        after = [n for n in self.nodes if given in n.input and n is not node]
        alone = given not in self.ends and made not in self.ends and self.readers[made] == 1
        if alone and len(after) == 1 and after[0].op_type == "Mul" and made in after[0].input:
            return after[0]
        return None

    def close(self, ends):
        """Output layers behind the end nodes, and who follows whom."""
        outputs = []
        for tensor in ends:
            before = self.of[tensor]
            outputs.append(before.name)
            layer = self.new("output_layer", [self.ends[tensor]], [before.name], before.tensor)
            layer.output_shape = list(before.output_shape)
            self.of[tensor] = before
        for layer in self.layers:
            layer.output = [other.name for other in self.layers if layer.name in other.input]
        return outputs
