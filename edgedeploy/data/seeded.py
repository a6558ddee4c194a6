"""Layout "seeded": values from a fixed seed, for models whose data is not at hand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedeploy.data.arrays import Array, Slot, take_array
from edgedeploy.data.dataset import Sample, unlabelled
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, EvaluationSpec

DEFAULT_COUNT = 64


@dataclass(frozen=True)
class SeededRows:
    """`size` samples of uniform values in each input's `value_range`."""

    size: int
    seed: int
    slots: tuple[Slot, ...]

    @property
    def source(self) -> str:
        return f"{self.size} samples made from seed {self.seed}, no data"

    def __len__(self) -> int:
        return self.size

    def labels(self) -> None:
        return None

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        generator = np.random.default_rng(self.seed)
        for index in chosen:
            arrays = {slot.name: take_array(_draw(generator, slot), slot) for slot in self.slots}
            yield Sample(arrays, None, f"seed {self.seed}[{index}]")

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        return []

    def facts(self) -> dict[str, str]:
        return {"numpy": np.__version__, "size": str(self.size)}


def open_seeded(spec: DataSpec, slots: tuple[Slot, ...]) -> SeededRows:
    """`spec.count` samples (64 where it is not given); `DataError` for an evaluation.

    Values are uniform between the ends of `value_range`: real numbers without the upper end,
    integers with both. `normalize_arrays` applies mean and std as for any array.
    """
    if isinstance(spec, EvaluationSpec):
        where = "data made from a seed"
        raise unlabelled(where)
    if spec.seed < 0:
        msg = f"seed is {spec.seed}: a seed is 0 or more"
        raise DataError(msg)
    return SeededRows(DEFAULT_COUNT if spec.count is None else spec.count, spec.seed, slots)


def _draw(generator: np.random.Generator, slot: Slot) -> Array:
    low, high = slot.spec.value_range
    if slot.dtype.kind == "f":
        return generator.uniform(low, high, slot.shape).astype(slot.dtype)
    if slot.dtype.kind not in "iub":
        msg = f"input {slot.name!r}: no values can be drawn for dtype {slot.dtype}"
        raise DataError(msg, hint="Give the data as layout 'npz' or 'python'.")
    first, last = int(np.ceil(low)), int(np.floor(high))
    lowest, highest = 0, 1
    if slot.dtype.kind != "b":
        bounds = np.iinfo(slot.dtype)
        lowest, highest = int(bounds.min), int(bounds.max)
    if not lowest <= first <= last <= highest:
        msg = f"input {slot.name!r}: value_range {low:g} to {high:g} holds no {slot.dtype}"
        raise DataError(msg, hint=f"Set value_range within {lowest} to {highest}.")
    return generator.integers(first, last, slot.shape, endpoint=True).astype(slot.dtype)
