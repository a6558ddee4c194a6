"""Weights drawn from a seed, for networks whose published ones cannot be had: fit to quantize."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

Network = TypeVar("Network", bound=nn.Module)

KERNELS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
SAMPLES = 8
# across an image, of the patterns it is the sum of
CELLS = (2, 4, 8, 16, 32)
# significant bits kept of what is measured, far above what the order of a sum can change
KEPT_BITS = 11
# mean of a kernel's values from one channel to another, in their standard deviations
SMOOTHING = 1.0
# a channel's variance is taken to be at least this share of the layer's median
LEAST_VARIANCE = 0.5


def seeded(
    make: Callable[[], Network],
    seed: int,
    shape: tuple[int, ...],
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Network:
    """The network that `make` gives, with weights from `seed` alone, in evaluation mode.

    Kernels are drawn by He's rule and then scaled by a power of two, layer after layer, such that
    each one's output has a standard deviation near 1 on images (C, H, W) = `shape` drawn from the
    same seed; batch norm takes its statistics from them. So activations neither vanish nor grow,
    in float as in int8. The same seed gives the same weights; torch's own random state is left
    as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _one_thread():
        torch.manual_seed(seed)
        network = make()
        for layer in network.modules():
            _draw(layer)
        # in double precision, so that the rounding below hides the order of summation
        images = _images(shape, value_range)
        network.double().train()
        hooks = [layer.register_forward_hook(_scale) for layer in network.modules()]
        network(images)
        for hook in hooks:
            hook.remove()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                _settle(layer)
        return network.float().eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    # these layers are so small that threads would mostly wait for each other
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _draw(layer: nn.Module) -> None:
    if isinstance(layer, KERNELS):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in")
        if layer.weight.ndim == 4:
            # filters that only differentiate would pass on the rounding and not the picture
            sign = torch.sign(torch.randn(*layer.weight.shape[:2], 1, 1))
            layer.weight.add_(SMOOTHING * layer.weight.std() * sign)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, 0.0, 0.1)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        nn.init.normal_(layer.bias, 0.0, 0.2)
        # the statistics become those of the one batch, not a running mean of it and the old ones
        layer.momentum = None


def _images(shape: tuple[int, ...], value_range: tuple[float, float]) -> torch.Tensor:
    """Images (SAMPLES, C, H, W) as photographs are: the coarser a pattern, the stronger."""
    channels, height, width = shape
    total = torch.zeros(SAMPLES, channels, height, width, dtype=torch.float64)
    for cells in CELLS:
        pattern = torch.rand(SAMPLES, channels, cells, cells).double() - 0.5
        pattern = functional.interpolate(pattern, (height, width), mode="bilinear")
        total += pattern / cells
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return value_range[0] + (value_range[1] - value_range[0]) * (total - low) / (high - low)


def _scale(layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
    """Scale weight and bias by the power of two that brings the output nearest to deviation 1."""
    if not isinstance(layer, KERNELS):
        return None
    deviation = output.std()
    if not deviation > 0:
        return None
    factor = torch.exp2(-torch.round(torch.log2(deviation)))
    layer.weight.mul_(factor)
    if layer.bias is not None:
        layer.bias.mul_(factor)
    return output * factor


def _settle(layer: nn.BatchNorm2d) -> None:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        return
    # a channel that hardly varies would be amplified most, and set the scale of a whole layer
    variance.clamp_(min=float(variance.median()) * LEAST_VARIANCE)
    for statistic in (mean, variance):
        mantissa, exponent = torch.frexp(statistic)
        step = 2.0**KEPT_BITS
        statistic.copy_(torch.ldexp(torch.round(mantissa * step) / step, exponent))
