"""Calibration samples, read one at a time from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

Table = dict[str, Any]


class Samples:
    """Calibration samples as esp-ppq's data loader: a tensor, or a list of them in input order."""

    def __init__(self, files: dict[str, str], inputs: list[Table], count: int) -> None:
        self.arrays = [np.load(files[value["name"]], mmap_mode="r") for value in inputs]
        self.count = min(count, len(self.arrays[0]))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.count):
            tensors = self.tensors(i)
            yield tensors if len(tensors) > 1 else tensors[0]

    def tensors(self, i: int) -> list[torch.Tensor]:
        """The inputs of one inference."""
        return [torch.from_numpy(np.array(array[i])) for array in self.arrays]
