"""ResNets for CIFAR-10 with parameter-free shortcuts (He et al. 2016, section 4.2, option A)."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.errors import InputError


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Where the block halves the image and widens the channels, its shortcut takes every second pixel
    and pads the new channels with zeros, half before and half after the old ones.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.added = channels_out - channels_in

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1 or self.added:
            before = self.added // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, before, self.added - before))
        return functional.relu(out + x)


class ResNet(nn.Module):
    """A 3x3 stem, three stages of 16, 32 and 64 channels, mean over the image, one linear layer."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of images (N, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        scores: torch.Tensor = self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return scores


def build(depth: int = 20, classes: int = 10) -> ResNet:
    """ResNet of 6n + 2 layers: 20, 32, 44, 56, 110; 269,722 parameters at depth 20."""
    if depth < 8 or (depth - 2) % 6:
        msg = f"depth is {depth}, expected 6n + 2"
        raise InputError(msg, hint="Use 20, 32, 44, 56 or 110.")
    return ResNet((depth - 2) // 6, classes)


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(channels_in, channels_out, stride)
    return nn.Sequential(first, *(Block(channels_out, channels_out, 1) for _ in range(blocks - 1)))
