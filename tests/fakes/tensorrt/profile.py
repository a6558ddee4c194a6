"""Optimization profiles: the least, the likely and the largest shape of each dynamic input."""

from __future__ import annotations

from typing import Any

from tensorrt.log import emit
from tensorrt.strict import Bound


class IOptimizationProfile(Bound):
    """Shapes by input; whether they can be is told when it is asked for or added."""

    extra_memory_target = 1.0

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._shapes: dict[str, dict[str, list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        shapes = [[int(size) for size in shape] for shape in (min, opt, max)]
        if len({len(shape) for shape in shapes}) != 1:
            msg = "Shape provided for opt is inconsistent with other shapes."
            raise RuntimeError(msg)
        self._shapes[input] = {"min": shapes[0], "opt": shapes[1], "max": shapes[2]}

    def get_shape(self, input: str) -> list[tuple[int, ...]]:
        found = self._shapes.get(input)
        return [tuple(found[key]) for key in ("min", "opt", "max")] if found else []

    def __bool__(self) -> bool:
        wrong = [
            name
            for name, each in self._shapes.items()
            if not all(
                0 <= each["min"][axis] <= likely <= each["max"][axis]
                for axis, likely in enumerate(each["opt"])
            )
        ]
        for name in wrong:
            text = (
                "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid optimization"
                f" profiles for input tensors {name}, please ensure that the optimization profiles"
                " satisfy MIN<=OPT<=MAX. )"
            )
            emit(self._logger, "ERROR", text)
        return not wrong
