"""DS-CNN for keyword spotting as in MLPerf Tiny (Zhang et al. 2017; Banbury et al. 2021)."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.seeded import seeded
from edgedeploy.zoo.tflite_weights import load_tflite

# frames of 20 ms, MFCC coefficients
FRAMES, COEFFICIENTS = 49, 10
CHANNELS, BLOCKS = 64, 4
KERNEL, STRIDE = (10, 4), 2


class DSCNN(nn.Module):
    """A 10x4 convolution, four pairs of depthwise 3x3 and 1x1, mean, one linear: 22,604 parameters.

    Batch norm is folded, as in the published files.
    """

    def __init__(self, classes: int, *, softmax: bool) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(
            (*same(COEFFICIENTS, KERNEL[1], STRIDE), *same(FRAMES, KERNEL[0], STRIDE))
        )
        layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, KERNEL, STRIDE), nn.ReLU()]
        for _ in range(BLOCKS):
            layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS), nn.ReLU()]
            layers += [nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(CHANNELS, classes)
        self.softmax = softmax

    def forward(self, mfcc: torch.Tensor) -> torch.Tensor:
        """Scores, or probabilities, (N, classes) of MFCC maps (N, 1, 49, 10)."""
        x = functional.adaptive_avg_pool2d(self.features(self.pad(mfcc)), 1).flatten(1)
        scores: torch.Tensor = self.classifier(x)
        return scores.softmax(1) if self.softmax else scores


def build(
    weights: str | None = None, classes: int = 12, *, softmax: bool = False, seed: int = 0
) -> DSCNN:
    """DS-CNN with the weights of a .tflite file, found as data is, or drawn from `seed`.

    Softmax is left out unless asked for: it changes no prediction. Raises `InputError` for a file
    that is none, or holds another network.
    """
    if weights is None:
        # the range of the published files' int8 input
        shape = (1, FRAMES, COEFFICIENTS)
        return seeded(lambda: DSCNN(classes, softmax=softmax), seed, shape, (-123.0, 26.0))
    return load_tflite(DSCNN(classes, softmax=softmax), weights)


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis for TensorFlow's padding "SAME": the odd one comes after."""
    total = max(0, ((size - 1) // stride) * stride + kernel - size)
    return total // 2, total - total // 2
