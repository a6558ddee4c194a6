"""Networks of the microcontroller targets: published figures, formulas, published weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgedeploy.errors import InputError
from edgedeploy.zoo import cropnet, dscnn, mobilenet, pmrid, rac, resnet8, yunet

KERNELS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def macs(make: Callable[[], nn.Module], *shape: int) -> int:
    """Multiply-accumulates of convolutions and linear layers; nothing is computed for it."""
    found = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal found
        # a transposed convolution spreads each input, the others gather each output
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        found += places[0, 0].numel() * cast("torch.Tensor", layer.weight).numel()

    with torch.device("meta"):
        model = make().eval()
        for layer in model.modules():
            if isinstance(layer, KERNELS):
                layer.register_forward_hook(count)
        model(torch.zeros(1, *shape))
    return found


@pytest.mark.parametrize(
    ("variant", "count", "millions"),
    [
        ("PMRID", 1_031_619, (962.2, 240.6, 60.1)),
        ("PMRIDd", 162_403, (268.4, 67.1, 16.8)),
        ("PMRIDd2", 61_443, (262.9, 65.7, 16.4)),
        ("PMRIDd3", 5_147, (84.4, 21.1, 5.3)),
        ("PMRIDu3", 200_515, (687.9, 172.0, 43.0)),
    ],
)
def test_pmrid_has_the_published_figures(
    variant: str, count: int, millions: tuple[float, ...]
) -> None:
    def make() -> nn.Module:
        return pmrid.PMRID(pmrid.VARIANTS[variant])

    assert parameters(make()) == count
    found = [macs(make, 3, side, side) / 1e6 for side in (256, 128, 64)]
    assert [round(figure, 1) for figure in found] == list(millions)


@pytest.mark.parametrize(
    ("blocks", "count", "millions"),
    [(0, 32_960, 25.7), (4, 623_552, 488.1), (8, 1_214_144, 950.5)],
)
def test_rac_encoders_have_the_published_figures(blocks: int, count: int, millions: float) -> None:
    assert parameters(rac.Encoder(blocks)) == count
    assert round(macs(lambda: rac.Encoder(blocks), 3, 224, 224) / 1e6, 1) == millions
    with torch.device("meta"):
        assert rac.Encoder(blocks)(torch.zeros(1, 3, 224, 224)).shape == (1, 64, 28, 28)


def test_the_cropper_has_the_published_figures() -> None:
    assert parameters(cropnet.CropNet()) == 352_532
    assert round(macs(cropnet.CropNet, 3, 224, 224) / 1e6, 1) == 94.6
    backbone = cropnet.CropNet().features
    assert round(parameters(backbone) / 1e6, 3) == 0.270
    assert round(macs(lambda: cropnet.CropNet().features, 3, 224, 224) / 1e6, 1) == 94.5


def test_yunet_has_the_published_figures() -> None:
    def make() -> nn.Module:
        return yunet.YuNet(raw=False)

    assert parameters(make()) == 75_856
    found = [round(macs(make, 3, side, side) / 1e6, 1) for side in (320, 256, 128)]
    assert found == [135.6, 86.8, 21.7]


def test_mlperf_tiny_networks_have_the_published_figures() -> None:
    assert parameters(resnet8.ResNet8(10, softmax=False)) == 77_706
    assert round(macs(lambda: resnet8.ResNet8(10, softmax=False), 3, 32, 32) / 1e6, 2) == 12.50
    assert parameters(dscnn.DSCNN(12, softmax=False)) == 22_604
    assert round(macs(lambda: dscnn.DSCNN(12, softmax=False), 1, 49, 10) / 1e6, 2) == 2.66


def test_the_small_mobilenetv2_has_the_figure_that_instructions_are_told_by() -> None:
    def make() -> nn.Module:
        return mobilenet.MobileNetV2(classes=2, width=0.35, dropout=0.0)

    assert parameters(make()) == 398_690
    assert round(macs(make, 3, 96, 96) / 1e6, 2) == 10.66


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (49, 10, 2, (4, 5)),
        (10, 4, 2, (1, 1)),
        (32, 3, 2, (0, 1)),
        (32, 3, 1, (1, 1)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding_puts_the_odd_zero_after(
    size: int, kernel: int, stride: int, expected: tuple[int, int]
) -> None:
    assert dscnn.same(size, kernel, stride) == expected


def test_pmrid_adds_its_correction_to_the_picture() -> None:
    model = pmrid.build("PMRIDd3")
    with torch.no_grad():
        model.last.weight.zero_()
        assert model.last.bias is not None
        model.last.bias.fill_(0.25)
        image = torch.rand(1, 3, 16, 24)
        torch.testing.assert_close(model(image), image + 0.25)


def test_the_cropper_answers_shares_of_the_side() -> None:
    with torch.no_grad():
        box = cropnet.build()(torch.rand(2, 3, 64, 64))
    assert box.shape == (2, 4)
    assert 0 <= float(box.min()) <= float(box.max()) <= 1


def test_rac_without_blocks_is_one_gelu_between_two_convolutions() -> None:
    model = rac.build()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        patches = functional.conv2d(image, model.patches.weight, model.patches.bias, stride=8)
        expected = model.narrow(patches * (1 + torch.erf(patches / 2**0.5)) / 2)
        torch.testing.assert_close(model(image), expected)


def test_yunet_outputs_are_the_raw_maps_by_pixel_with_sigmoid_on_the_scores() -> None:
    whole, raw = yunet.build(), yunet.build(raw=True)
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        rows, maps = whole(image), raw(image)
    assert list(rows) == list(maps) == list(yunet.OUTPUTS)
    assert rows["kps_8"].shape == (1, 8 * 12, 10)
    assert maps["kps_8"].shape == (1, 10, 8, 12)
    assert rows["bbox_16"][0, 5, 2] == maps["bbox_16"][0, 2, 0, 5]
    assert rows["obj_8"][0, 13, 0] == torch.sigmoid(maps["obj_8"][0, 0, 1, 1])


def test_yunet_is_named_as_the_published_weights() -> None:
    names = yunet.build().state_dict()
    assert names["backbone.model0.conv2.bn.running_var"].shape == (16,)
    assert names["neck.lateral_convs.2.conv2.weight"].shape == (64, 1, 3, 3)
    assert names["bbox_head.multi_level_share_convs.1.0.conv1.bias"].shape == (64,)
    assert names["bbox_head.multi_level_kps.0.conv1.weight"].shape == (10, 64, 1, 1)
    assert "bbox_head.multi_level_kps.0.bn.weight" not in names
    assert len(names) == 208


def test_softmax_is_left_out_unless_asked_for() -> None:
    mfcc = torch.rand(3, 1, 49, 10) * 50
    with torch.no_grad():
        scores = dscnn.build()(mfcc)
        torch.testing.assert_close(dscnn.build(softmax=True)(mfcc), scores.softmax(1))
        image = torch.rand(2, 3, 32, 32) * 255
        scores = resnet8.build()(image)
        torch.testing.assert_close(resnet8.build(softmax=True)(image), scores.softmax(1))


def test_names_and_numbers_that_are_none() -> None:
    with pytest.raises(InputError, match="no variant 'PMRIDd4'") as caught:
        pmrid.build("PMRIDd4")
    assert "PMRIDd" in caught.value.hint
    with pytest.raises(InputError, match="blocks is -1"):
        rac.build(-1)


@pytest.fixture
def published(data_folder: Path) -> Callable[[str], Callable[[np.ndarray], list[np.ndarray]]]:
    """Runs a published ONNX file: inputs one by one, outputs stacked, in their order."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    def load(name: str) -> Callable[[np.ndarray], list[np.ndarray]]:
        session = onnxruntime.InferenceSession(
            data_folder / name, providers=["CPUExecutionProvider"]
        )
        (node,) = session.get_inputs()

        def run(x: np.ndarray) -> list[np.ndarray]:
            rows = [session.run(None, {node.name: x[i : i + 1]}) for i in range(len(x))]
            return [np.concatenate(column) for column in zip(*rows, strict=True)]

        return run

    return load


def test_yunet_equals_its_published_onnx(
    data_folder: Path, published: Callable[[str], Callable[[np.ndarray], list[np.ndarray]]]
) -> None:
    from PIL import Image

    file = data_folder / "face/wider_val/12_Group_Group_12_Group_Group_12_728.jpg"
    picture = Image.open(file).convert("RGB").resize((640, 640))
    bgr = np.asarray(picture, np.float32)[:, :, ::-1].transpose(2, 0, 1)[None].copy()
    model = yunet.build()
    path = data_folder / "models/yunet_n.pth"
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict(weights)
    expected = published("models/yunet_n_640_640.onnx")(bgr)
    with torch.no_grad():
        found = model(torch.from_numpy(bgr))
    scores = found["cls_8"] * found["obj_8"], found["cls_16"] * found["obj_16"]
    assert max(float(score.max()) for score in scores) > 0.5
    for name, output in zip(yunet.OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name].numpy(), output, atol=1e-4, err_msg=name)


def test_resnet8_equals_its_published_onnx(
    data_folder: Path, published: Callable[[str], Callable[[np.ndarray], list[np.ndarray]]]
) -> None:
    file = data_folder / "mlperf_tiny/ic/pretrainedResnet.tflite"
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32)).astype(np.float32)
    (expected,) = published("mlperf_tiny/ic/pretrainedResnet.onnx")(images)
    with torch.no_grad():
        found = resnet8.build(str(file), softmax=True)(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
