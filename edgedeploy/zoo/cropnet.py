"""EdgeCompress's box predictor, the light one: a picture to the box of its foreground."""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.seeded import seeded

STEM = 16
# inner width of a stage's two blocks; four times as many channels leave it
WIDTHS = (16, 32, 32, 64)
EXPANSION, BLOCKS = 4, 2
HEAD = (256, 64)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width; a 1x1 shortcut where shapes change."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = width * EXPANSION
        self.body = nn.Sequential(
            *_normalised(channels_in, width, 1),
            nn.ReLU(),
            *_normalised(width, width, 3, stride),
            nn.ReLU(),
            *_normalised(width, channels_out, 1),
        )
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Sequential(
            *([] if same else _normalised(channels_in, channels_out, 1, stride))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class CropNet(nn.Module):
    """Stem, four stages of stride 2, mean over the image, three linear layers: 352,532 parameters.

    94.6 million multiply-accumulates at 224 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_normalised(3, STEM, 3, stride=2), nn.ReLU()]
        channels = STEM
        for width in WIDTHS:
            for block in range(BLOCKS):
                layers.append(Bottleneck(channels, width, stride=2 if block == 0 else 1))
                channels = width * EXPANSION
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels, HEAD[0]),
            nn.ReLU(),
            nn.Linear(HEAD[0], HEAD[1]),
            nn.ReLU(),
            nn.Linear(HEAD[1], 4),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Boxes (N, 4), xmin, ymin, xmax, ymax as shares of the side, of images (N, 3, H, W)."""
        x = functional.adaptive_avg_pool2d(self.features(image), 1).flatten(1)
        box: torch.Tensor = torch.sigmoid(self.head(x))
        return box


def build(seed: int = 0) -> CropNet:
    """The predictor with weights drawn from `seed`; the published ones cannot be had."""
    # half the side serves as well for statistics; the range is that of normalised pixels
    return seeded(CropNet, seed, (3, 112, 112), (-2.1, 2.6))


def _normalised(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out)]
