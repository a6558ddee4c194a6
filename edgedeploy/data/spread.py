"""A subset of a data set that covers all of it, the same one every time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedeploy.data.arrays import Array
from edgedeploy.errors import DataError


def check_count(count: int | None) -> None:
    """`DataError` for a `count` under 1."""
    if count is not None and count < 1:
        msg = f"count is {count}: a data set needs at least one sample"
        raise DataError(msg, hint="Give a count of 1 or more, or none to take all samples.")


def spread(size: int, count: int | None, labels: Sequence[Any] | Array | None = None) -> list[int]:
    """Indices of `count` of `size` samples, ascending; all of them for None or a larger `count`.

    An even stride, from the middle of the first step: sample floor((2i + 1) size / (2 count)) for
    i in 0..count-1. With `labels` the stride runs over the samples ordered by label, so that each
    class gives its share of `count` to within one: balanced where the data is, and an unbiased
    sample of it where it is not. Raises `DataError` for a `count` under 1.
    """
    check_count(count)
    if count is None or count >= size:
        return list(range(size))
    order = np.arange(size) if labels is None else np.argsort(np.asarray(labels), kind="stable")
    steps = (2 * np.arange(count, dtype=np.int64) + 1) * size // (2 * count)
    return sorted(int(index) for index in order[steps])
