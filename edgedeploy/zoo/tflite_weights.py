"""The weights of a TensorFlow Lite file for the same network written in PyTorch."""

from typing import TypeVar

import torch
from torch import nn

from edgedeploy.errors import InputError
from edgedeploy.workload import find_data
from edgedeploy.zoo.tflite import read_tflite

Network = TypeVar("Network", bound=nn.Module)


def load_tflite(network: Network, weights: str) -> Network:
    """`network` with the weights of a file, found as data is, in evaluation mode.

    The convolutions and linear layers of both are paired in the order the file runs them, in which
    the network declares them; each has its batch norm folded. Raises `InputError` for a file that
    is missing or damaged, and one whose layers are others.
    """
    path = find_data(weights, "")
    given = read_tflite(path).layers()
    kinds = (nn.Conv2d, nn.Linear)
    own = [layer for layer in network.modules() if isinstance(layer, kinds)]
    if len(given) != len(own):
        msg = f"{path} has {len(given)} convolutions and linear layers, this network {len(own)}"
        raise InputError(msg, hint="Name the file of this network.")
    for place, (layer, found) in enumerate(zip(own, given, strict=True)):
        bias = torch.zeros(len(found.weight)) if found.bias is None else torch.tensor(found.bias)
        weight = torch.tensor(found.weight)
        if weight.shape != layer.weight.shape or layer.bias is None:
            shapes = f"found {tuple(weight.shape)}, expected {tuple(layer.weight.shape)}"
            msg = f"{path}: layer {place} ({found.kind}) does not fit: {shapes}"
            raise InputError(msg, hint="Name the file of this network.")
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return network.eval()
