"""Metrics by name, and a user's own."""

from pathlib import Path

import numpy as np
import pytest

from edgedeploy.errors import InputError
from edgedeploy.metrics import make_metric

OWN = """
class Error:
    unit = "m"
    def __init__(self, output="out"):
        self.output, self.total, self.count = output, 0.0, 0
    def update(self, outputs, labels):
        self.total += abs(outputs[self.output] - labels).sum()
        self.count += len(labels)
    def value(self):
        return float(self.total / self.count)
def broken():
    raise ValueError("no")
def wrong():
    return 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "my_metric.py").write_text(OWN)
    return str(tmp_path)


def test_each_call_gives_a_fresh_one() -> None:
    first = make_metric("top5")
    first.update({"out": np.eye(6)}, range(6))
    assert (first.count, first.value()) == (6, 1.0)
    assert make_metric("top5").count == 0


@pytest.mark.parametrize("output", [None, "depth"])
def test_a_users_own(folder: str, output: str | None) -> None:
    metric = make_metric("my_metric.py:Error", output, folder)
    metric.update({output or "out": np.array([1.0, 5.0])}, np.array([2.0, 2.0]))
    assert (metric.value(), metric.unit, metric.count) == (2.0, "m", 2)


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(InputError, match="there is no metric 'top-1'") as caught:
        make_metric("top-1")
    assert "Did you mean 'top1'?" in caught.value.hint


def test_one_that_raises(folder: str) -> None:
    with pytest.raises(InputError, match=r"broken' raised ValueError: no") as caught:
        make_metric("my_metric.py:broken", None, folder)
    assert "in broken" in caught.value.log


def test_an_object_of_another_kind(folder: str) -> None:
    with pytest.raises(InputError, match="gave a int without update, value, unit, count"):
        make_metric("my_metric.py:wrong", None, folder)
