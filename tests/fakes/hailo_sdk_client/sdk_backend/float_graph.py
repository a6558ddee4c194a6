"""The float model as the device takes it: NHWC outside, what a model script adds inside."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Graph:
    """An ONNX graph under construction; names that it makes up hold a colon, a body's seldom do."""

    def __init__(self, network):
        self.model = onnx.ModelProto()
        self.model.ParseFromString(network.body)
        self.network = network
        self.batch = "N" if network.batchable else 1
        self.nodes = list(self.model.graph.node)
        self.tensors = {t.name: t for t in self.model.graph.initializer}

    def constant(self, name, array):
        self.tensors[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def array(self, name):
        return numpy_helper.to_array(self.tensors[name])

    def node(self, op_type, inputs, output, place=None, **attributes):
        made = helper.make_node(op_type, inputs, [output], name=output, **attributes)
        self.nodes.insert(len(self.nodes) if place is None else place, made)
        return output

    def rename(self, old, new, make=False):
        """Readers of a value read another; with `make`, its maker makes that other instead."""
        for node in self.nodes:
            names = node.output if make else node.input
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new

    def finished(self, inputs, outputs):
        """The model with these inputs and outputs: names with shapes behind the batch axis."""
        kind = onnx.TensorProto.FLOAT
        values = [
            [helper.make_tensor_value_info(n, kind, [self.batch, *s]) for n, s in ends.items()]
            for ends in (inputs, outputs)
        ]
        used = {name for node in self.nodes for name in node.input}
        tensors = [tensor for name, tensor in self.tensors.items() if name in used]
        graph = helper.make_graph(self.nodes, self.network.name, *values, tensors)
        result = helper.make_model(graph, opset_imports=self.model.opset_import)
        result.ir_version = self.model.ir_version
        return result


def wire_shape(shape):
    """(H, W, C) of a layer's value on its way to or from the device."""
    return list(shape) if len(shape) == 3 else [1, 1, *shape]


def native(network):
    """The body alone, its inputs and outputs NHWC and called by layer."""
    return close(open_inputs(Graph(network), []), {})


def optimized(network, script):
    """The body with what a script adds: normalization, colours, activations of outputs."""
    added = [c for c in script if c["command"] in {"normalization", "input_conversion"}]
    changed = {}
    for command in script:
        if command["command"] == "change_output_activation":
            changed |= dict.fromkeys(command["layers"], command["activation"])
    return close(open_inputs(Graph(network), added), changed)


def open_inputs(graph, added):
    """Inputs as on the wire. Each addition goes right behind the input: the last comes first."""
    head = []
    for name in graph.network.inputs:
        layer = graph.network.layer(name)
        value, flat = name, len(graph_shape(graph, layer.tensor)) == 2
        how = {"axis": 1} if flat else {"perm": [0, 3, 1, 2]}
        op_type = "Flatten" if flat else "Transpose"
        head.append(helper.make_node(op_type, [value], [f"{name}:in"], **how))
        value = f"{name}:in"
        for place, command in enumerate(c for c in reversed(added) if c["layer"] == name):
            made = f"{name}:add{place}"
            if command["command"] == "input_conversion":
                graph.constant(f"{made}:order", np.array([2, 1, 0], np.int64))
                nodes = [helper.make_node("Gather", [value, f"{made}:order"], [made], axis=1)]
            else:
                shape = [1, -1] if flat else [1, -1, 1, 1]
                for word in ("mean", "std"):
                    array = np.array(command[word], np.float32).reshape(shape)
                    graph.constant(f"{made}:{word}", array)
                nodes = [
                    helper.make_node("Sub", [value, f"{made}:mean"], [f"{made}:sub"]),
                    helper.make_node("Div", [f"{made}:sub", f"{made}:std"], [made]),
                ]
            head += nodes
            value = made
        graph.rename(layer.tensor, value)
    graph.nodes[:0] = head
    return graph


def graph_shape(graph, tensor):
    value = next(v for v in graph.model.graph.input if v.name == tensor)
    return value.type.tensor_type.shape.dim


def close(graph, changed):
    """Outputs as on the wire, one a layer, behind activations that a script put there."""
    network = graph.network
    inputs = {name: wire_shape(network.layer(name).output_shape) for name in network.inputs}
    outputs = {}
    for name in network.outputs:
        layer = network.layer(name)
        value = layer.tensor
        ops = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}
        kind = changed.get(name, "linear")
        if kind == "relu6":
            bounds = [graph.constant(f"{name}:{v}", np.float32(v)) for v in (0, 6)]
            value = graph.node("Clip", [value, *bounds], f"{name}:act")
        elif kind in ops:
            value = graph.node(ops[kind], [value], f"{name}:act")
        if len(layer.output_shape) == 3:
            graph.node("Transpose", [value], name, perm=[0, 2, 3, 1])
        else:
            axes = graph.constant(f"{name}:axes", np.array([1, 2], np.int64))
            graph.node("Unsqueeze", [value, axes], name)
        outputs[name] = wire_shape(layer.output_shape)
    graph.ends = inputs, outputs
    return graph
