"""A small CNN for 8x8 handwritten digits."""

import torch
from torch import nn

from edgedeploy.zoo.digits_data import load_split

__all__ = ["DigitsNet", "build", "load_split"]


class DigitsNet(nn.Module):
    """Four 3x3 convolutions with batch norm, then one linear layer: 35,258 parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 16),
            *_block(16, 32),
            nn.MaxPool2d(2),
            *_block(32, 32),
            *_block(32, 64),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Linear(64 * 2 * 2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of images (N, 1, 8, 8) with values 0..1."""
        scores: torch.Tensor = self.classifier(self.features(images).flatten(1))
        return scores


def build(classes: int = 10) -> DigitsNet:
    """The network with fresh weights; the trained ones are `weights/digits.safetensors`."""
    return DigitsNet(classes)


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
