"""Metrics: streaming accumulators that judge a model's outputs against labels."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import InputError, nearest

BUILT_IN = {"top1": 1, "top5": 5}


@runtime_checkable
class Metric(Protocol):
    """Fed batch by batch; `value` is in `unit` ("1" for a fraction), over `count` samples."""

    unit: str
    count: int

    def update(self, outputs: dict[str, npt.NDArray[np.generic]], labels: npt.ArrayLike) -> None:
        """Judge one batch: outputs by name, the batch axis first, and one label a sample."""
        ...

    def value(self) -> float:
        """The metric over all samples so far."""
        ...


def make_metric(name: str, output: str | None = None, folder: str = "") -> Metric:
    """A fresh metric: "top1", "top5", or a user's own as `module:callable` or `file.py:callable`.

    `output` names the model's output that is judged; None takes the only one. A user's callable is
    called with `output=` where it is set, else without arguments, and gives an object with
    `update`, `value`, `unit` and `count`; a file is looked up in `folder` (the workload's own).
    Raises `InputError` for an unknown name (with the nearest) or an object of another kind.
    """
    if name in BUILT_IN:
        from edgedeploy.metrics.classification import TopK

        return TopK(BUILT_IN[name], output)
    if ":" in name:
        return _load_metric(name, output, folder)
    msg = f"there is no metric {name!r}"
    raise InputError(msg, hint=f"{nearest(name, list(BUILT_IN))} Your own is 'file.py:callable'.")


def _load_metric(name: str, output: str | None, folder: str) -> Metric:
    import traceback

    from edgedeploy.callables import load_callable

    function = load_callable(name, folder, "metric")
    try:
        metric = function() if output is None else function(output=output)
    except Exception as err:
        msg = f"metric {name!r} raised {type(err).__name__}: {err}"
        raise InputError(msg, hint="Mend that code.", log=traceback.format_exc()) from err
    if not isinstance(metric, Metric):
        lacking = [a for a in ("update", "value", "unit", "count") if not hasattr(metric, a)]
        msg = f"metric {name!r} gave a {type(metric).__name__} without {', '.join(lacking)}"
        hint = "Give an object with update(outputs, labels), value(), unit and count."
        raise InputError(msg, hint=hint)
    return metric
