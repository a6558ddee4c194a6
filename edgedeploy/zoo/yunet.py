"""YuNet-n, a face detector of 75,856 parameters (Wu, Peng and Yu 2023), named as its weights are.

Its input is BGR, 0 to 255, not normalised.
"""

import torch
from torch import nn
from torch.nn import functional

from edgedeploy.zoo.seeded import seeded

STEM, WIDTH, STAGES = 16, 64, 6
# channels of each head: a score of the class, a box, a score of being an object, five landmarks
HEADS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
SCORES = ("cls", "obj")
STRIDES = (8, 16, 32)
# a maximum over 2x2 comes before each of these stages
POOLED = (1, 3, 4, 5)
OUTPUTS = tuple(f"{head}_{stride}" for head in HEADS for stride in STRIDES)


class DepthwisePointwise(nn.Module):
    """A 1x1 convolution, then a depthwise 3x3, then batch norm and ReLU unless `plain`."""

    def __init__(self, channels_in: int, channels_out: int, *, plain: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, groups=channels_out)
        self.plain = plain
        if not plain:
            self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x))
        return x if self.plain else functional.relu(self.bn(x))


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, padding=1)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = DepthwisePointwise(STEM, STEM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv2(functional.relu(self.bn1(self.conv1(x))))
        return found


class Stage(nn.Module):
    def __init__(self, channels_in: int, channels_middle: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = DepthwisePointwise(channels_in, channels_middle)
        self.conv2 = DepthwisePointwise(channels_middle, channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv2(self.conv1(x))
        return found


class Backbone(nn.Module):
    """Maps at strides 8, 16 and 32 of the image, 64 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.model0 = Stem()
        self.model1 = Stage(STEM, STEM, WIDTH)
        for stage in range(2, STAGES):
            self.add_module(f"model{stage}", Stage(WIDTH, WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.model0(x)
        maps = []
        for stage in range(1, STAGES):
            x = functional.max_pool2d(x, 2) if stage in POOLED else x
            x = self.get_submodule(f"model{stage}")(x)
            maps.append(x)
        return maps[-len(STRIDES) :]


class Neck(nn.Module):
    """From the coarsest map on: refine, and add it, doubled, to the next finer one."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(DepthwisePointwise(WIDTH, WIDTH) for _ in STRIDES)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = list(maps)
        for level in reversed(range(len(maps))):
            maps[level] = self.lateral_convs[level](maps[level])
            if level:
                doubled = functional.interpolate(maps[level], scale_factor=2.0, mode="nearest")
                maps[level - 1] = maps[level - 1] + doubled
        return maps


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.multi_level_share_convs = nn.ModuleList(
            nn.Sequential(DepthwisePointwise(WIDTH, WIDTH)) for _ in STRIDES
        )
        for head, channels in HEADS.items():
            levels = (DepthwisePointwise(WIDTH, channels, plain=True) for _ in STRIDES)
            self.add_module(f"multi_level_{head}", nn.ModuleList(levels))

    def forward(self, maps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        found = {}
        shared = [layer(x) for layer, x in zip(self.multi_level_share_convs, maps, strict=True)]
        for head in HEADS:
            for level, stride in enumerate(STRIDES):
                layer = self.get_submodule(f"multi_level_{head}.{level}")
                found[f"{head}_{stride}"] = layer(shared[level])
        return found


class YuNet(nn.Module):
    """Backbone, top-down pyramid, and four heads at each of three strides.

    With `raw` the outputs are the heads' own maps (N, C, H, W), cls and obj before the sigmoid:
    what is left runs on the host.
    """

    def __init__(self, *, raw: bool) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck()
        self.bbox_head = Head()
        self.raw = raw

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Twelve outputs, cls_8 to kps_32, (N, H W / stride^2, C), of images (N, 3, H, W).

        H and W are multiples of 32.
        """
        maps: dict[str, torch.Tensor] = self.bbox_head(self.neck(self.backbone(image)))
        if self.raw:
            return maps
        rows = {name: x.permute(0, 2, 3, 1).flatten(1, 2) for name, x in maps.items()}
        return {name: x.sigmoid() if name.startswith(SCORES) else x for name, x in rows.items()}


def build(*, raw: bool = False, seed: int = 0) -> YuNet:
    """The detector with weights drawn from `seed`; published ones fit it as they are.

    They lie under the key `state_dict` of the authors' yunet_n.pth.
    """
    return seeded(lambda: YuNet(raw=raw), seed, (3, 96, 96), (0.0, 255.0))
