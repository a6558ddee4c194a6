"""Layout "python": samples from a user's own function, or from an object in memory."""

import itertools
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from edgedeploy.callables import load_callable, source_file
from edgedeploy.data.arrays import (
    Array,
    Slot,
    by_name,
    label_key,
    plain_label,
    slots_of,
    take_array,
)
from edgedeploy.data.dataset import Dataset, Sample, Selection
from edgedeploy.errors import DataError, EdgeDeployError
from edgedeploy.workload import DataSpec, InputSpec

T = TypeVar("T")

WHAT = "data loader"
FORMS = (
    "It gives (input, label) pairs one by one, or a pair of arrays (x, y); an input is an array,"
    " a tuple of arrays in the inputs' order, or a dict by input name."
)


@dataclass(frozen=True)
class PythonRows:
    """What `supply()` gives, in one of these forms:

    a pair of arrays (x, y), y may be None, x an array, a dict of arrays by input name or a tuple
    of arrays in the inputs' order, samples on axis 0; a sequence of samples, read one by one when
    asked for; any other iterable (a generator, a loader of batches), of which the first `limit`
    samples are read and kept. A sample is an input, or (input, label); whole batches are taken
    apart.
    """

    source: str
    supply: Callable[[], object]
    slots: tuple[Slot, ...]
    limit: int | None = None
    file: Path | None = None

    @cached_property
    def _held(self) -> "_Stacked | Sequence[Any]":
        given = self._ask(self.supply)
        if isinstance(given, tuple) and len(given) == 2 and _is_stacked(given[0], self.slots):
            return _stack(given[0], given[1], self.slots, self.source)
        if _is_stacked(given, self.slots):
            return _stack(given, None, self.slots, self.source)
        indexed = hasattr(given, "__getitem__")
        if indexed and hasattr(given, "__len__"):
            items = cast("Sequence[Any]", given)
            if not self._starts_with_batch(items):
                return items
        if not indexed and not isinstance(given, Iterable):
            msg = f"{WHAT} {self.source} gave a {type(given).__name__}, not samples"
            raise DataError(msg, hint=FORMS)
        return list(itertools.islice(self._stream(given), self.limit))

    def __len__(self) -> int:
        return self._ask(len, self._held)

    def labels(self) -> Array | None:
        return self._held.labels if isinstance(self._held, _Stacked) else None

    def read(self, chosen: Sequence[int]) -> Iterator[Sample]:
        held = self._held
        for index in chosen:
            where = f"{self.source}[{index}]"
            item = self._ask(held.__getitem__, index)
            arrays, label = _parts(item, self.slots, where)
            taken = {slot.name: take_array(arrays[slot.name], slot) for slot in self.slots}
            yield Sample(taken, plain_label(label), where)

    def files(self, choose: Callable[[], Sequence[int]]) -> list[Path]:
        return [self.file] if self.file else []

    def facts(self) -> dict[str, str]:
        return {"loader": self.source}

    def _stream(self, given: object) -> Iterator[Any]:
        """The items of an iterable, batches taken apart."""
        items = self._ask(iter, given)
        end = object()
        for place in itertools.count():
            item = self._ask(next, items, end)
            if item is end:
                return
            if not self._is_batch(item):
                yield item
                continue
            where = f"{self.source} batch {place}"
            arrays, label = _parts(item, self.slots, where)
            stacked = _stack(arrays, label, self.slots, where)
            yield from (stacked[index] for index in range(len(stacked)))

    def _starts_with_batch(self, given: Sequence[Any]) -> bool:
        return self._ask(len, given) > 0 and self._is_batch(self._ask(given.__getitem__, 0))

    def _is_batch(self, item: object) -> bool:
        arrays, _ = _parts(item, self.slots, self.source)
        return all(arrays[slot.name].ndim == len(slot.shape) + 1 for slot in self.slots)

    def _ask(self, function: Callable[..., T], *arguments: object) -> T:
        """Run the user's code; what it raises becomes a `DataError` with its traceback."""
        try:
            return function(*arguments)
        except EdgeDeployError:
            raise
        except (Exception, SystemExit) as err:
            msg = f"{WHAT} {self.source} raised {type(err).__name__}: {err}"
            raise DataError(msg, hint="Mend the loader.", log=traceback.format_exc()) from err


@dataclass(frozen=True)
class _Stacked:
    """Arrays by input name with samples on axis 0, and their labels."""

    arrays: dict[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> tuple[dict[str, Array], Any]:
        label = None if self.labels is None else self.labels[index]
        return {name: array[index] for name, array in self.arrays.items()}, label


def open_python(spec: DataSpec, slots: tuple[Slot, ...], folder: str) -> PythonRows:
    """What the function named in `spec.data` gives when called with `split=spec.split`.

    A file is looked up beside the workload, then under `EDGEDEPLOY_DATA`. The function is not
    imported before the first sample is asked for. Raises `InputError` for a missing file or module.
    """
    file = source_file(spec.data, folder, WHAT)

    def supply() -> object:
        return load_callable(spec.data, folder, WHAT)(split=spec.split)

    return PythonRows(f"{spec.data}(split={spec.split!r})", supply, slots, spec.count, file)


def open_object(
    given: object, inputs: tuple[InputSpec, ...], spec: DataSpec, source: str = "loader"
) -> Dataset:
    """The samples of an object in memory, as a loader in a notebook: the forms of `PythonRows`.

    Of `spec` only `count` counts, and whether it is an `EvaluationSpec`, which needs labels.
    """
    slots = slots_of(inputs)
    return Selection(PythonRows(source, lambda: given, slots, spec.count), spec, inputs, slots)


def _is_stacked(value: object, slots: tuple[Slot, ...]) -> bool:
    """Whole arrays (numpy's, torch's) with samples on axis 0: one, a dict or a tuple of them."""
    if isinstance(value, Mapping):
        return bool(value) and all(hasattr(inner, "shape") for inner in value.values())
    if isinstance(value, tuple):
        return len(value) == len(slots) and all(
            len(getattr(inner, "shape", ())) == len(slot.shape) + 1
            for inner, slot in zip(value, slots, strict=True)
        )
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _stack(value: object, labels: object, slots: tuple[Slot, ...], where: str) -> _Stacked:
    # a pair, so that a tuple of two inputs is not taken for an input and its label
    arrays, own = _parts(value if isinstance(value, Mapping) else (value, None), slots, where)
    sizes = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        msg = f"{where} has arrays of unlike sample counts: {sizes}"
        raise DataError(msg, hint="Stack the same number of samples on axis 0 of each.")
    size = next(iter(sizes.values()))
    labels = own if labels is None else labels
    known = None if labels is None else _array(labels, f"{where} labels")
    if known is not None and (known.ndim == 0 or len(known) != size):
        count = len(known) if known.ndim else 1
        msg = f"{where} is mislabelled: {count} labels for {size} samples"
        raise DataError(msg, hint="Give one label a sample, in the same order.")
    return _Stacked(arrays, known)


def _parts(item: object, slots: tuple[Slot, ...], where: str) -> tuple[dict[str, Array], Any]:
    """The arrays by input name and the label of one sample (or of one batch)."""
    label = None
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item, label = item
    if isinstance(item, Mapping):
        key = label_key(item, slots)
        label = item[key] if key is not None and label is None else label
        arrays = by_name(item, slots, where)
    elif isinstance(item, (tuple, list)) and len(item) == len(slots):
        arrays = {slot.name: value for slot, value in zip(slots, item, strict=True)}
    elif len(slots) == 1:
        arrays = {slots[0].name: item}
    else:
        msg = f"{where} gave a {type(item).__name__} for {len(slots)} inputs"
        raise DataError(msg, hint=FORMS)
    return {name: _array(value, where) for name, value in arrays.items()}, label


def _array(value: object, where: str) -> Array:
    # a torch tensor may carry a graph or lie on another device
    value = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as err:
        msg = f"{where} gave a {type(value).__name__}, which is no array: {err}"
        raise DataError(msg, hint=FORMS) from err
    if array.dtype.hasobject:
        msg = f"{where} gave a {type(value).__name__}, which is no array of numbers"
        raise DataError(msg, hint=FORMS)
    return array
