"""Weights drawn from a seed: the same every time, and activations fit for int8."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgedeploy.zoo import cropnet, dscnn, mobilenet, pictures, pmrid, rac, resnet8, yunet
from edgedeploy.zoo.seeded import seeded

BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "cropnet": lambda seed: cropnet.build(seed=seed),
    "pmridd2": lambda seed: pmrid.build(seed=seed),
    "rac": lambda seed: rac.build(1, seed=seed),
    "yunet": lambda seed: yunet.build(seed=seed),
    "resnet8": lambda seed: resnet8.build(seed=seed),
    "dscnn": lambda seed: dscnn.build(seed=seed),
    "mobilenet": lambda seed: mobilenet.build(width=0.35, seed=seed, settled=True),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_come_from_the_seed_alone(name: str) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    first = BUILDERS[name](0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again = BUILDERS[name](0).state_dict()
    finally:
        torch.set_num_threads(threads)
    other = BUILDERS[name](1).state_dict()
    assert not first.training
    for key, value in first.state_dict().items():
        assert torch.equal(value, again[key]), key
        assert torch.isfinite(value).all()
        assert value.dtype in (torch.float32, torch.int64)
    kernels = [key for key, value in other.items() if value.ndim == 4]
    assert not any(torch.equal(again[key], other[key]) for key in kernels)


@pytest.mark.parametrize(
    ("name", "mean", "deviation", "factor"),
    [
        ("cropnet", 0.45, 0.25, 1.0),
        ("pmridd2", 0.0, 1.0, 1.0),
        ("rac", 0.45, 0.25, 1.0),
        ("yunet", 0.0, 1.0, 255.0),
        ("mobilenet", 0.5, 0.5, 1.0),
    ],
)
def test_activations_neither_vanish_nor_grow_on_photographs(
    name: str, mean: float, deviation: float, factor: float
) -> None:
    images, _ = pictures.crops_96("test")
    x = (torch.from_numpy(images[:8]) * factor - mean) / deviation
    model = BUILDERS[name](0)
    deviations = []

    def note(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        deviations.append(float(output.std()))

    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.Linear) or (
            name in ("pmridd2", "rac") and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        ):
            layer.register_forward_hook(note)
    with torch.no_grad():
        found = model(x)
    assert len(deviations) > 3
    # the last layer of the picture enhancer gives a small correction on purpose
    inner = deviations[:-1] if name == "pmridd2" else deviations
    assert 0.1 < min(inner) <= max(inner) < 20
    outputs = list(found.values()) if isinstance(found, dict) else [found]
    for output in outputs:
        assert torch.isfinite(output).all()
        assert float((output[0] - output[1]).abs().max()) > 1e-4


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.wide(self.norm(self.conv(x)))
        return found


def test_kernels_are_scaled_and_statistics_taken_and_cut_to_few_bits() -> None:
    net = seeded(Net, 0, (1, 16, 16), (0.0, 1000.0))
    statistics = net.norm.running_mean, net.norm.running_var
    for statistic in statistics:
        assert statistic is not None
        mantissa, _ = torch.frexp(statistic)
        assert torch.equal(mantissa * 2**11, torch.round(mantissa * 2**11))
    # values up to 1000 are brought to a deviation near 1 by the first kernel itself
    assert float(net.conv.weight.detach().abs().max()) < 0.02
    variance = net.norm.running_var
    assert variance is not None
    assert float(variance.min()) >= 0.49 * float(variance.median())
