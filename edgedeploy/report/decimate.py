"""Long series made short for drawing without losing an extreme."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Bins(NamedTuple):
    """Per bin the position of its first sample, its least and its greatest value."""

    t: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def min_max(t: Array, values: Array, count: int) -> Bins:
    """At most `count` bins of neighbouring samples, equal in number of samples within one.

    `t` and `values` have shape (n,), n >= 1, in order of time. The least and greatest value of all
    samples are the least `low` and the greatest `high`, so a spike of one sample stays visible.
    """
    starts = np.unique(np.linspace(0, len(values), min(count, len(values)) + 1).astype(np.int64))
    starts = starts[:-1]
    numbers = np.asarray(values, dtype=np.float64)
    return Bins(
        t=np.asarray(t, dtype=np.float64)[starts],
        low=np.minimum.reduceat(numbers, starts),
        high=np.maximum.reduceat(numbers, starts),
    )
