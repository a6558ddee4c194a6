"""ResNet8 for CIFAR-10 as in MLPerf Tiny (Banbury et al. 2021), batch norm folded."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.dscnn import same
from edgedeploy.zoo.seeded import seeded
from edgedeploy.zoo.tflite_weights import load_tflite

SIDE = 32
# channels in and out, stride, and the side of the block's input
BLOCKS = ((16, 16, 1, 32), (16, 32, 2, 32), (32, 64, 2, 16))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 where the block halves the side."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, side: int) -> None:
        super().__init__()
        pad = same(side, 3, stride)
        self.pad = nn.ZeroPad2d((*pad, *pad))
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(functional.relu(self.first(self.pad(x))))
        return functional.relu(y + self.shortcut(x))


class ResNet8(nn.Module):
    """A 3x3 stem, three blocks, mean over the image, one linear layer: 77,706 parameters."""

    def __init__(self, classes: int, *, softmax: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, BLOCKS[0][0], 3, padding=1)
        self.blocks = nn.Sequential(*(Block(*block) for block in BLOCKS))
        self.classifier = nn.Linear(BLOCKS[-1][1], classes)
        self.softmax = softmax

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores, or probabilities, (N, classes) of images (N, 3, 32, 32), values 0..255."""
        x = self.blocks(functional.relu(self.stem(images)))
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        scores: torch.Tensor = self.classifier(x)
        return scores.softmax(1) if self.softmax else scores


def build(
    weights: str | None = None, classes: int = 10, *, softmax: bool = False, seed: int = 0
) -> ResNet8:
    """ResNet8 with the weights of a .tflite file, found as data is, or drawn from `seed`.

    Raises `InputError` for a file that is none, or holds another network.
    """
    if weights is None:
        shape = (3, SIDE, SIDE)
        return seeded(lambda: ResNet8(classes, softmax=softmax), seed, shape, (0.0, 255.0))
    return load_tflite(ResNet8(classes, softmax=softmax), weights)
