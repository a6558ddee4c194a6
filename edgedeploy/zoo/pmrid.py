"""PMRID (Wang et al. 2020) and its smaller kin: denoising and low-light enhancement of pictures."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.errors import InputError, nearest
from edgedeploy.zoo.seeded import seeded

# share of the correction in an untrained network's output
CORRECTION = 1 / 16


@dataclass(frozen=True)
class Variant:
    """Channels: of the first layer, of each encoder stage with its blocks, between, of decoders."""

    first: int
    encoder: tuple[tuple[int, int], ...]
    middle: int
    decoder: tuple[int, ...]


VARIANTS = {
    "PMRID": Variant(16, ((64, 2), (128, 2), (256, 4), (512, 4)), 64, (64, 32, 32, 16)),
    "PMRIDd": Variant(8, ((32, 2), (64, 2), (128, 4), (128, 4)), 32, (32, 16, 16, 8)),
    "PMRIDd2": Variant(8, ((32, 2), (64, 4), (64, 4)), 32, (32, 16, 8)),
    "PMRIDd3": Variant(8, ((8, 2), (8, 2), (8, 2)), 8, (8, 8, 8)),
    "PMRIDu3": Variant(16, ((64, 2), (128, 2), (256, 2)), 64, (32, 32, 16)),
}


def separable(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A depthwise convolution without bias, then a 1x1 with one."""
    return nn.Sequential(
        nn.Conv2d(
            channels_in,
            channels_in,
            kernel,
            stride,
            kernel // 2,
            groups=channels_in,
            bias=False,
        ),
        nn.Conv2d(channels_in, channels_out, 1),
    )


class EncoderBlock(nn.Module):
    """Two separable 5x5 through a quarter of the channels, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        inner = channels_out // 4
        self.first = separable(channels_in, inner, 5, stride)
        self.second = separable(inner, channels_out, 5)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else separable(channels_in, channels_out, 3, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + self.shortcut(x))


class DecoderBlock(nn.Module):
    """x + two separable 3x3 of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = separable(channels, channels, 3)
        self.second = separable(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        refined: torch.Tensor = x + self.second(functional.relu(self.first(x)))
        return refined


class DecoderStage(nn.Module):
    """Refine, double the side, and add what the encoder had at that side."""

    def __init__(self, channels_in: int, channels_skip: int, channels_out: int) -> None:
        super().__init__()
        self.refine = DecoderBlock(channels_in)
        self.upsample = nn.ConvTranspose2d(channels_in, channels_out, 2, 2)
        self.skip = separable(channels_skip, channels_out, 3)

    def forward(self, x: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = self.upsample(self.refine(x)) + functional.relu(self.skip(encoded))
        return merged


class PMRID(nn.Module):
    """A U-shaped network of separable convolutions that adds its correction to the picture."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, variant.first, 3, padding=1)
        channels = [variant.first, *(out for out, _ in variant.encoder)]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                EncoderBlock(before, after, 2),
                *(EncoderBlock(after, after, 1) for _ in range(blocks - 1)),
            )
            for (before, after), (_, blocks) in zip(
                pairwise(channels), variant.encoder, strict=True
            )
        )
        self.middle = separable(channels[-1], variant.middle, 3)
        stages = pairwise((variant.middle, *variant.decoder))
        self.decoder = nn.ModuleList(
            DecoderStage(before, skip, after)
            for (before, after), skip in zip(stages, reversed(channels[:-1]), strict=True)
        )
        self.refine = DecoderBlock(variant.decoder[-1])
        self.last = nn.Conv2d(variant.decoder[-1], 3, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures (N, 3, H, W) of pictures (N, 3, H, W); H and W multiples of 2^stages."""
        encoded = [functional.relu(self.first(image))]
        for stage in self.encoder:
            encoded.append(stage(encoded[-1]))
        x = functional.relu(self.middle(encoded.pop()))
        for stage in self.decoder:
            x = stage(x, encoded.pop())
        enhanced: torch.Tensor = image + self.last(self.refine(x))
        return enhanced


def build(variant: str = "PMRIDd2", seed: int = 0) -> PMRID:
    """One of the family with weights drawn from `seed`, for values 0..1.

    Parameters: PMRID 1,031,619, PMRIDd 162,403, PMRIDd2 61,443, PMRIDd3 5,147, PMRIDu3 200,515.
    Raises `InputError` for another name.
    """
    if variant not in VARIANTS:
        msg = f"there is no variant {variant!r}"
        raise InputError(msg, hint=nearest(variant, list(VARIANTS)))
    network = seeded(lambda: PMRID(VARIANTS[variant]), seed, (3, 64, 64))
    with torch.no_grad():
        network.last.weight.mul_(CORRECTION)
        if network.last.bias is not None:
            network.last.bias.mul_(CORRECTION)
    return network
