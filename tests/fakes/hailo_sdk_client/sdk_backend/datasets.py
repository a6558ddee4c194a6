"""Data for calibration and for the emulators: what is taken, and what is refused."""

from pathlib import Path

import numpy as np

from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    AccelerasValueError,
    BadInputsShape,
    InvalidArgumentsException,
)

DTYPES = ("float32", "uint8")


def read(network, data):
    """Arrays (N, H, W, C) by input layer, from an array, a dict of them, or the path of a .npy.

    Raises BadInputsShape for another shape (NCHW among them), AccelerasValueError for another
    dtype or for none at all, InvalidArgumentsException for what is no data.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            message = f"Couldn't find dataset in {path}"
            raise FileNotFoundError(message)
        data = np.load(path)
    if callable(data):
        message = "this stand-in has no TensorFlow: a callable that gives a dataset is not taken"
        raise InvalidArgumentsException(message)
    if isinstance(data, np.ndarray):
        if len(network.inputs) != 1:
            text = f"the network has {len(network.inputs)} inputs: give a dict by input layer"
            raise InvalidArgumentsException(text)
        data = {network.inputs[0]: data}
    if not isinstance(data, dict) or not all(isinstance(a, np.ndarray) for a in data.values()):
        message = f"data is {type(data).__name__}, expected an array, a dict of arrays or a path"
        raise InvalidArgumentsException(message)
    if set(data) != set(network.inputs):
        message = f"data is given for {sorted(data)}, the input layers are {network.inputs}"
        raise InvalidArgumentsException(message)
    for name, array in data.items():
        _check(network.layer(name), array)
    if len({len(array) for array in data.values()}) != 1:
        message = "the inputs have different numbers of entries"
        raise AccelerasValueError(message)
    return {name: data[name] for name in network.inputs}


def _check(layer, array):
    expected = tuple(layer.output_shape)
    if array.shape[1:] != expected:
        raise BadInputsShape(layer.name, expected, array.shape[1:])
    if array.dtype.name not in DTYPES:
        message = f"data for layer {layer.name} is {array.dtype}, expected float32 or uint8"
        raise AccelerasValueError(message)
    if not len(array):
        message = f"data for layer {layer.name} has no entries"
        raise AccelerasValueError(message)
