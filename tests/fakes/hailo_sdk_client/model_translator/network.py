"""A Hailo network: its layers, and the ONNX body that computes them."""

from dataclasses import asdict, dataclass, field


@dataclass
class Layer:
    """One layer; `output_shape` is (H, W, C) or (F,), `tensor` its value in the body.

    `made` holds the first output of each node of the body that the layer stands for.
    """

    name: str
    type: str
    original_names: list
    input: list
    output_shape: list
    tensor: str
    made: list = field(default_factory=list)
    output: list = field(default_factory=list)


@dataclass
class Network:
    """Layers in order of computation; inputs and outputs by layer name, in the model's order.

    The body takes and gives values as the ONNX model does, its batch axis free where `batchable`.
    """

    name: str
    layers: list
    inputs: list
    outputs: list
    body: bytes
    batchable: bool = True

    def layer(self, name):
        return next(layer for layer in self.layers if layer.name == name)

    def hn(self):
        """The network as a dict, as users of the package read it."""
        layers = {}
        shapes = {layer.name: [-1, *layer.output_shape] for layer in self.layers}
        for layer in self.layers:
            before = [shapes[name] for name in layer.input]
            layers[layer.name] = {
                "type": layer.type,
                "input": list(layer.input),
                "output": list(layer.output),
                "input_shapes": before or [shapes[layer.name]],
                "output_shapes": [shapes[layer.name]] * max(1, len(layer.output)),
                "original_names": list(layer.original_names),
            }
        order = list(self.outputs)
        params = {"version": "1.0", "stage": "HN", "output_layers_order": order}
        params |= {"transposed_net": False, "net_scopes": [self.name]}
        return {"name": self.name, "net_params": params, "layers": layers}

    def as_dict(self):
        """All but the body, for a file."""
        return {key: value for key, value in asdict(self).items() if key != "body"}

    @classmethod
    def from_dict(cls, record, body):
        layers = [Layer(**layer) for layer in record["layers"]]
        return cls(**{**record, "layers": layers, "body": body})


class HailoNN:
    """The network as an object, as the model zoo asks it."""

    def __init__(self, network):
        self._network = network
        self.name = network.name

    def _of_type(self, kind):
        return [layer for layer in self._network.layers if layer.type == kind]

    def get_input_layers(self):
        return self._of_type("input_layer")

    def get_output_layers(self, remove_non_neural_core_layers=True):
        if remove_non_neural_core_layers:
            return [self._network.layer(name) for name in self._network.outputs]
        return self._of_type("output_layer")

    def get_input_shapes(self, ignore_conversion=True):
        if not isinstance(ignore_conversion, bool):
            message = f"ignore_conversion is {ignore_conversion!r}, expected a bool"
            raise TypeError(message)
        return [[-1, *layer.output_shape] for layer in self.get_input_layers()]

    def is_transposed(self):
        return False
