"""TensorFlow Lite files: what is read of them, the weights in a network, and damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tflite_file import Written, tflite_bytes
from torch import nn

from edgedeploy.errors import InputError
from edgedeploy.zoo.tflite import read_tflite
from edgedeploy.zoo.tflite_weights import load_tflite

Shape = tuple[int, ...]


def numbers(*shape: int) -> np.ndarray[Shape, np.dtype[np.float32]]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def content() -> bytes:
    """A 3x2 convolution with int8 weights a channel, a depthwise, a linear one without a bias."""
    tensors = [
        Written("image", (1, 4, 4, 2)),
        Written(
            "stem",
            (2, 3, 2, 2),
            "int8",
            np.arange(24).reshape(2, 3, 2, 2) - 12,
            (0.5, 0.25),
            (0, 1),
        ),
        Written("stem/bias", (2,), "int32", [4, -8], (0.125,), (0,)),
        Written("a", (1, 4, 4, 2)),
        Written("depthwise", (1, 3, 3, 2), data=numbers(1, 3, 3, 2)),
        Written("depthwise/bias", (2,), data=[1, 2]),
        Written("b", (1, 4, 4, 2)),
        Written("linear", (3, 2), data=numbers(3, 2)),
        Written("scores", (1, 3)),
    ]
    operators = [
        ("CONV_2D", [0, 1, 2], [3]),
        ("CUSTOM", [3], [3]),
        ("DEPTHWISE_CONV_2D", [3, 4, 5], [6]),
        ("FULLY_CONNECTED", [6, 7, -1], [8]),
    ]
    return tflite_bytes(tensors, operators, inputs=(0,), outputs=(8,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(content())
    return path


class Net(nn.Module):
    def __init__(self, classes: int = 3, *, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 2, (3, 2))
        self.depthwise = nn.Conv2d(2, 2, 3, groups=2)
        self.linear = nn.Linear(2, classes, bias=bias)


def test_tensors_and_operators(file: Path) -> None:
    model = read_tflite(file)
    assert (model.inputs, model.outputs) == ((0,), (8,))
    assert [op.kind for op in model.operators] == [
        "CONV_2D",
        "#32",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    ]
    assert model.operators[3].inputs == (6, 7, -1)
    image, stem = model.tensor("image"), model.tensor("stem")
    assert (image.shape, image.dtype, image.stored) == ((1, 4, 4, 2), "float32", None)
    assert (stem.shape, stem.dtype) == ((2, 3, 2, 2), "int8")
    assert stem.quantization is not None
    assert stem.quantization.scale.tolist() == [0.5, 0.25]
    assert stem.quantization.zero_point.tolist() == [0, 1]


def test_constants_are_dequantized_by_channel(file: Path) -> None:
    real = read_tflite(file).tensor("stem").real()
    assert real.dtype == np.float32
    assert real[0, 0, 0].tolist() == [-6.0, -5.5]
    assert real[1, 2, 1].tolist() == [(10 - 1) * 0.25, (11 - 1) * 0.25]


def test_layers_come_in_order_on_the_axes_of_pytorch(file: Path) -> None:
    stem, depthwise, linear = read_tflite(file).layers()
    shapes = [layer.weight.shape for layer in (stem, depthwise, linear)]
    assert shapes == [(2, 2, 3, 2), (2, 1, 3, 3), (3, 2)]
    assert depthwise.weight[1, 0].tolist() == [[1, 3, 5], [7, 9, 11], [13, 15, 17]]
    assert stem.bias is not None
    assert stem.bias.tolist() == [0.5, -1.0]
    assert linear.bias is None


def test_weights_fill_a_network(file: Path) -> None:
    net = load_tflite(Net(), str(file))
    assert not net.training
    assert net.stem.weight[0, :, 0, 0].tolist() == [-6.0, -5.5]
    assert net.depthwise.bias is not None
    assert net.depthwise.bias.tolist() == [1.0, 2.0]
    assert torch.equal(net.linear.bias, torch.zeros(3))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(2, 3)), "3 convolutions and linear layers, this network 1"),
        (Net(classes=4), r"layer 2 \(FULLY_CONNECTED\) does not fit: found \(3, 2\)"),
        (Net(bias=False), "layer 2 .* does not fit"),
    ],
)
def test_another_network(file: Path, net: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_tflite(net, str(file))


def test_missing_names_and_constants(file: Path) -> None:
    model = read_tflite(file)
    with pytest.raises(InputError, match="no tensor 'depthwize'") as caught:
        model.tensor("depthwize")
    assert "'depthwise'" in caught.value.hint
    with pytest.raises(InputError, match="'image' holds no constant"):
        model.tensor("image").real()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(InputError, match="no TensorFlow Lite model: its identifier is"):
        read_tflite(path)
    with pytest.raises(InputError, match="does not exist"):
        read_tflite(tmp_path / "y.tflite")


def test_a_cut_file_is_said_to_be_cut(tmp_path: Path) -> None:
    whole = content()
    path = tmp_path / "cut.tflite"
    refused = 0
    for length in range(8, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            read_tflite(path).layers()
        except InputError as err:
            refused += "damaged or cut short" in err.message
    assert refused > 0.95 * len(range(8, len(whole), 7))


def test_damaged_bytes_raise_nothing_but_input_errors(tmp_path: Path) -> None:
    whole = content()
    generator = np.random.default_rng(0)
    path = tmp_path / "damaged.tflite"
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(8, len(whole), 4):
            damaged[place] = int(generator.integers(256))
        path.write_bytes(damaged)
        try:
            read_tflite(path).layers()
        except InputError:
            refused += 1
    assert refused > 30


def test_the_published_keyword_spotting_model(data_folder: Path) -> None:
    model = read_tflite(data_folder / "mlperf_tiny/kws/kws_ref_model.tflite")
    mfcc = model.tensors[model.inputs[0]]
    assert (mfcc.name, mfcc.shape, mfcc.dtype) == ("input_1", (1, 49, 10, 1), "int8")
    assert mfcc.quantization is not None
    assert mfcc.quantization.scale.tolist() == pytest.approx([0.5847029])
    assert mfcc.quantization.zero_point.tolist() == [83]
    layers = model.layers()
    assert len(layers) == 10
    floats = read_tflite(data_folder / "mlperf_tiny/kws/kws_ref_model_float32.tflite").layers()
    for layer, twin in zip(layers, floats, strict=True):
        assert layer.kind == twin.kind
        np.testing.assert_allclose(layer.weight, twin.weight, atol=0.012)
