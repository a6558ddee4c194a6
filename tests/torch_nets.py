"""Small PyTorch models, each with one trait that an export must keep or refuse."""

from typing import Any

import torch
from torch import nn


class Linear(nn.Module):
    """x (B, 4) -> (B, 3)."""

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(4, out)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(x)


class Normalised(nn.Module):
    """Convolution and batch normalisation with statistics of its own: (B, 3, 8, 8) -> (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 5)
        with torch.no_grad():
            self.norm.running_mean += 0.3
            self.norm.running_var *= 2

    def forward(self, image: torch.Tensor) -> Any:
        return self.head(self.drop(torch.relu(self.norm(self.conv(image)))).mean((2, 3)))


class Two(nn.Module):
    """Two inputs that must not be taken for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(4, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> Any:
        return self.a(left) - 2 * self.b(right)


class Optional(nn.Module):
    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: torch.Tensor | None = None
    ) -> Any:
        x = x if mask is None else x * mask
        return x + 1 if scale is None else x * scale


class Named(nn.Module):
    """A dict of outputs, not in the order of their names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return {"zeta": self.a(x), "note": "not a tensor", "alpha": self.b(x)}


class Nested(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x * 2, [x + 1, {"k": x - 1}], None


class Tokens(nn.Module):
    """Token numbers (B, T) int64 -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.head(self.table(tokens).mean(1))


class Branch(nn.Module):
    """A Python branch on values: a trace bakes one side in."""

    def forward(self, x: torch.Tensor) -> Any:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Conditional(nn.Module):
    """The same branch, as the exported-program exporter can keep it."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda t: t * 2, lambda t: t - 1, (x,))


class Largest(nn.Module):
    """A value taken out of the graph, which only the exported-program exporter keeps."""

    def forward(self, x: torch.Tensor) -> Any:
        return x * float(x.abs().max().item())


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x + torch.rand_like(x)


class Baked(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.ones(x.shape[0], 3)


class Unused(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return x * 2


class Found(nn.Module):
    """An output as long as there are positive values."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.nonzero(x > 0)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(float("-inf")))

    def forward(self, x: torch.Tensor) -> Any:
        return torch.where(x > 0, x, self.low)


class Brain(nn.Module):
    """bfloat16 out, which has no NumPy array."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.bfloat16()


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        msg = "the bridge is out\nsecond line"
        raise RuntimeError(msg)


class Empty(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return [None, "nothing"]


class Parameter(nn.Module):
    """An output that is a parameter, and so depends on no input."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1, 4))

    def forward(self, x: torch.Tensor) -> Any:
        return x * 2, self.p


def not_a_module() -> dict[str, int]:
    return {"a": 1}


def raising(**_: Any) -> nn.Module:
    msg = "no such depth"
    raise ValueError(msg)
