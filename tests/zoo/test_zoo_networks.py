"""The architectures: parameters, operations, names that published weights have, arithmetic."""

from typing import Any, cast

import pytest
import torch
from torch import nn

from edgedeploy.errors import InputError
from edgedeploy.zoo import digits, mobilenet, resnet_cifar


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def macs(model: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one input."""
    found = 0

    def count(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal found
        weight = cast("torch.Tensor", layer.weight)
        found += output[0, 0].numel() * weight.numel()

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    model.eval()(torch.zeros(1, *shape))
    return found


def test_mobilenetv2_has_the_published_size() -> None:
    assert parameters(mobilenet.build(classes=10)) == 2_236_682
    assert parameters(mobilenet.build(classes=1000)) == 3_504_872
    assert round(macs(mobilenet.build(classes=10), 3, 224, 224) / 1e6, 1) == 299.5
    assert round(macs(mobilenet.build(classes=10), 3, 32, 32) / 1e6, 2) == 6.12


@pytest.mark.parametrize(("width", "millions"), [(0.35, 1.66), (0.5, 1.95), (1.4, 6.06)])
def test_other_widths_have_the_published_sizes(width: float, millions: float) -> None:
    # rounded figures of the authors' own repository, which come out about 1 % lower
    found = parameters(mobilenet.build(classes=1000, width=width)) / 1e6
    assert found == pytest.approx(millions, rel=0.015)


@pytest.mark.parametrize(
    ("channels", "expected"), [(32 * 0.35, 16), (24 * 0.35, 8), (1, 8), (12, 16), (16, 16)]
)
def test_channels_are_multiples_of_eight_and_lose_a_tenth_at_most(
    channels: float, expected: int
) -> None:
    assert mobilenet.divisible(channels) == expected


def test_mobilenetv2_is_named_as_torchvision_names_it() -> None:
    shapes = {name: tuple(value.shape) for name, value in mobilenet.build().state_dict().items()}
    assert len(shapes) == 314
    expected = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_mean": (32,),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.0.1.weight": (32,),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.num_batches_tracked": (),
        "features.2.conv.0.0.weight": (96, 16, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.17.conv.3.bias": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (10, 1280),
        "classifier.1.bias": (10,),
    }
    assert {name: shapes[name] for name in expected} == expected


def test_mobilenetv2_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = mobilenet.build().state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    again, other = mobilenet.build().state_dict(), mobilenet.build(seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.0.0.weight"], other["features.0.0.weight"])


def test_untrained_mobilenetv2_gives_finite_scores_that_depend_on_the_input() -> None:
    model = mobilenet.build().eval()
    with torch.no_grad():
        scores = model(torch.rand(2, 3, 64, 64))
    assert scores.shape == (2, 10)
    assert 0.1 < float(scores.std(1).min()) < float(scores.std(1).max()) < 10
    assert float((scores[0] - scores[1]).abs().max()) > 0.01


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154), (110, 1_727_962)])
def test_resnets_have_the_published_sizes(depth: int, count: int) -> None:
    assert parameters(resnet_cifar.build(depth)) == count


def test_resnet20_is_named_as_the_published_weights() -> None:
    names = resnet_cifar.build().state_dict()
    assert "layer2.0.conv1.weight" in names
    assert "layer3.2.bn2.running_var" in names
    assert names["linear.weight"].shape == (10, 64)
    assert not [name for name in names if "shortcut" in name or "downsample" in name]
    assert round(macs(resnet_cifar.build(), 3, 32, 32) / 1e6, 1) == 40.6


def test_option_a_shortcut_subsamples_and_pads_channels_on_both_sides() -> None:
    block = resnet_cifar.Block(2, 4, stride=2).eval()
    nn.init.zeros_(cast("torch.Tensor", block.bn2.weight))
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    with torch.no_grad():
        out = block(x)
    assert out[0, 0].tolist() == [[0, 0], [0, 0]]
    assert out[0, 1].tolist() == [[0, 2], [8, 10]]
    assert out[0, 2].tolist() == [[16, 18], [24, 26]]
    assert out[0, 3].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_depths_that_are_no_resnet(depth: int) -> None:
    with pytest.raises(InputError, match=f"depth is {depth}, expected 6n \\+ 2"):
        resnet_cifar.build(depth)


def test_digits_network() -> None:
    model = digits.build().eval()
    assert parameters(model) == 35_258
    with torch.no_grad():
        assert model(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    kinds: list[Any] = [type(layer) for layer in model.modules()]
    assert kinds.count(nn.BatchNorm2d) == kinds.count(nn.Conv2d) == 4
