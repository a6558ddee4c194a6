"""MobileNetV2 (Sandler et al. 2018, table 2), its parameters named as torchvision names them."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.seeded import seeded

# expansion, channels at width 1, repeats, stride of the first
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by a depthwise 3x3, project by 1x1; a residual where shapes fit."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_convolution(channels_in, hidden, kernel=1))
        layers.append(_convolution(hidden, hidden, stride=stride, groups=hidden))
        layers.append(nn.Conv2d(hidden, channels_out, 1, bias=False))
        layers.append(nn.BatchNorm2d(channels_out))
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Module):
    """Stem, seven stages of inverted residuals, a 1x1 layer, mean over the image, one linear."""

    def __init__(self, classes: int, width: float, dropout: float) -> None:
        super().__init__()
        channels = divisible(STEM * width)
        layers: list[nn.Module] = [_convolution(3, channels, stride=2)]
        for expansion, base, repeats, first_stride in STAGES:
            channels_out = divisible(base * width)
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(InvertedResidual(channels, channels_out, expansion, stride))
                channels = channels_out
        last = divisible(LAST * max(1.0, width))
        layers.append(_convolution(channels, last, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, classes) of images (N, 3, H, W); H and W multiples of 32."""
        x = functional.adaptive_avg_pool2d(self.features(images), 1).flatten(1)
        scores: torch.Tensor = self.classifier(x)
        return scores


def build(
    classes: int = 10,
    width: float = 1.0,
    dropout: float = 0.2,
    seed: int = 0,
    *,
    settled: bool = False,
) -> MobileNetV2:
    """MobileNetV2 with weights drawn from `seed`: 2,236,682 parameters at 10 classes, width 1.

    The same seed gives the same weights; torch's own random state is left as it was. `settled`
    scales them and takes batch norm's statistics from drawn images, as is needed for int8.
    """
    if settled:
        return seeded(lambda: MobileNetV2(classes, width, dropout), seed, (3, 96, 96), (-1.0, 1.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MobileNetV2(classes, width, dropout)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                # by fan-out, untrained scores would vanish to 1e-10
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)
    return model


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels`, at least `by` and at least 90 % of `channels`."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def _convolution(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(
            channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )
