"""The sender's network of edge-cloud feature compression (Duan and Zhu 2022): picture to latent."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.errors import InputError
from edgedeploy.zoo.seeded import seeded

CHANNELS, LATENT, PATCH = 128, 64, 8


class ResidualBlock(nn.Module):
    """x + two 3x3 convolutions through half the channels, each after a GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.widen = nn.Conv2d(channels // 2, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        refined: torch.Tensor = x + self.widen(functional.gelu(self.narrow(functional.gelu(x))))
        return refined


class Encoder(nn.Module):
    """Patches of 8x8 to 128 channels, `blocks` residual blocks or one GELU, 1x1 to 64 channels."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        body: list[nn.Module] = [ResidualBlock(CHANNELS) for _ in range(blocks)]
        self.body = nn.Sequential(*(body or [nn.GELU()]))
        self.narrow = nn.Conv2d(CHANNELS, LATENT, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Latents (N, 64, H/8, W/8), before rounding, of normalised images (N, 3, H, W)."""
        latent: torch.Tensor = self.narrow(self.body(self.patches(image)))
        return latent


def build(blocks: int = 0, seed: int = 0) -> Encoder:
    """The encoder "n0", "n4" or "n8", by `blocks`, with weights drawn from `seed`.

    32,960, 623,552 and 1,214,144 parameters. Raises `InputError` for a negative number.
    """
    if blocks < 0:
        msg = f"blocks is {blocks}: a number of blocks is 0 or more"
        raise InputError(msg, hint="The published ones have 0, 4 and 8.")
    return seeded(lambda: Encoder(blocks), seed, (3, 96, 96), (-2.1, 2.6))
