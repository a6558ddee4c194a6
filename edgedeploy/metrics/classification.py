"""Top-k accuracy: how often the label is among the k highest scores."""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import DataError, InputError, nearest

Array = npt.NDArray[Any]


class TopK:
    """The share of samples whose label is among the `k` highest scores, 0 to 1.

    Equal scores rank by class index, lowest first, so that top-1 is argmax. A sample whose scores
    hold NaN has no ranking and counts as wrong.
    """

    unit = "1"

    def __init__(self, k: int, output: str | None = None) -> None:
        self.k = k
        self.output = output
        self.count = 0
        self._hits = 0

    def update(self, outputs: dict[str, Array], labels: npt.ArrayLike) -> None:
        """Judge one batch.

        The output is (N, classes), also with further axes of 1, or (classes,) for one sample;
        `labels` are N class indices. Raises `InputError` for an output that is not there or holds
        fewer than k classes, `DataError` for labels that are no class of the model.
        """
        indices = _class_indices(labels)
        scores = self._scores(outputs, len(indices))
        classes = scores.shape[1]
        outside = indices[(indices < 0) | (indices >= classes)]
        if outside.size:
            msg = f"mislabelled: class {outside[0]} found, expected 0 to {classes - 1}"
            raise DataError(msg, hint="Do the data set and the model have the same classes?")
        own = np.take_along_axis(scores, indices[:, None], axis=1)
        before = np.arange(classes) < indices[:, None]
        rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
        hits = (rank < self.k) & ~np.isnan(scores).any(axis=1)
        self._hits += int(hits.sum())
        self.count += len(indices)

    def value(self) -> float:
        """The share of hits so far; `DataError` before the first sample."""
        if self.count == 0:
            msg = f"top-{self.k} over 0 samples has no value"
            raise DataError(msg, hint="Is the evaluation set empty?")
        return self._hits / self.count

    def _scores(self, outputs: dict[str, Array], samples: int) -> Array:
        """The judged output as (samples, classes)."""
        name = self.output
        if name is None:
            if len(outputs) != 1:
                msg = f"the model has {len(outputs)} outputs: {', '.join(outputs)}"
                raise InputError(msg, hint="Name the one to judge: output in [evaluation].")
            name = next(iter(outputs))
        if name not in outputs:
            msg = f"the model has no output {name!r}"
            raise InputError(msg, hint=nearest(name, list(outputs)))
        found = np.asarray(outputs[name])
        scores = found[None] if found.ndim == 1 and samples == 1 else found
        if scores.ndim > 2 and set(scores.shape[2:]) == {1}:
            scores = scores.reshape(scores.shape[:2])
        if scores.ndim != 2 or len(scores) != samples:
            msg = f"output {name!r} has shape {found.shape}, expected ({samples}, classes)"
            raise InputError(msg, hint="Judge an output of class scores, one row a sample.")
        if scores.shape[1] < self.k:
            msg = f"output {name!r} has {scores.shape[1]} classes, too few for top-{self.k}"
            raise InputError(msg, hint="Judge by top1.")
        return scores


def _class_indices(labels: npt.ArrayLike) -> Array:
    """Labels as (N,) integers; `DataError` for anything that is no class index."""
    try:
        found = np.asarray(labels)
    except ValueError as err:
        msg = f"mislabelled: labels of unlike shapes ({err})"
        raise DataError(msg, hint="Give one class index a sample.") from err
    if found.ndim != 1 or found.dtype.kind not in "iu":
        msg = f"mislabelled: found {found.dtype} labels of shape {found.shape}, expected integers"
        raise DataError(msg, hint="Give one class index a sample.")
    return found.astype(np.int64)
