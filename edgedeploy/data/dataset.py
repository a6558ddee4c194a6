"""What every layout gives: samples in a fixed order, checked against the model's inputs."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edgedeploy.data.arrays import Array, Slot, check_array
from edgedeploy.data.spread import check_count, spread
from edgedeploy.errors import DataError
from edgedeploy.workload import DataSpec, EvaluationSpec, InputSpec


@dataclass(frozen=True)
class Sample:
    """One sample: an array an input without the batch axis, its label, and where it is from."""

    arrays: dict[str, Array]
    label: Any | None = None
    name: str = ""


class Dataset(Protocol):
    """Samples in a fixed order; may be iterated again and again."""

    @property
    def source(self) -> str:
        """Where the samples are from, for people."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def files(self) -> list[Path]:
        """Every file whose bytes determine the samples; may be empty."""
        ...

    def fingerprint_parts(self) -> dict[str, str]:
        """What else determines them: the choice of samples, the inputs' preprocessing, versions."""
        ...


class Rows(Protocol):
    """All samples of one split, before `count` chooses among them: what a layout alone knows."""

    @property
    def source(self) -> str: ...

    def __len__(self) -> int: ...

    def labels(self) -> Sequence[Any] | Array | None:
        """All labels where they are known without reading the samples, else None."""
        ...

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        """The samples at these ascending indices, in that order."""
        ...

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        """Files behind the samples that `choose()` tells; a layout of one file need not ask."""
        ...

    def facts(self) -> dict[str, str]: ...


class Selection:
    """The samples that `count` chooses of a layout's rows; a `Dataset`."""

    def __init__(
        self, rows: Rows, spec: DataSpec, inputs: tuple[InputSpec, ...], slots: tuple[Slot, ...]
    ) -> None:
        check_count(spec.count)
        self._rows = rows
        self._spec = spec
        self._inputs = inputs
        self._slots = slots

    @property
    def source(self) -> str:
        """Where the samples are from, for people."""
        return self._rows.source

    @cached_property
    def _chosen(self) -> list[int]:
        size = len(self._rows)
        if size == 0:
            msg = f"{self.source} is empty: 0 samples"
            raise DataError(msg, hint="Check the path and the split.")
        return spread(size, self._spec.count, self._rows.labels())

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._rows.read(self._chosen):
            for slot in self._slots:
                check_array(sample.arrays[slot.name], slot, sample.name)
            if sample.label is None and isinstance(self._spec, EvaluationSpec):
                raise unlabelled(sample.name)
            yield sample

    def files(self) -> list[Path]:
        """Every file whose bytes determine the samples."""
        return self._rows.files(lambda: self._chosen)

    def fingerprint_parts(self) -> dict[str, str]:
        """The choice of samples, the preprocessing, and the versions it depends on."""
        spec = {key: getattr(self._spec, key) for key in ("layout", "split", "count", "seed")}
        inputs = msgspec.json.encode(self._inputs, order="sorted").decode()
        return {"spec": json.dumps(spec, sort_keys=True), "inputs": inputs, **self._rows.facts()}


def unlabelled(where: str) -> DataError:
    """The error for data without labels where an evaluation needs them."""
    message = f"{where} has no label, and an evaluation needs one a sample"
    hint = (
        "Use a labelled layout (imagenet, cifar10, npz with 'labels', python giving pairs),"
        " or leave [evaluation] out."
    )
    return DataError(message, hint=hint)
