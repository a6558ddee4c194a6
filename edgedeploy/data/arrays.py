"""Arrays held against the model's inputs: names, shapes, dtypes, layout, NaN."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedeploy.errors import DataError, nearest
from edgedeploy.workload import InputSpec

Array: TypeAlias = npt.NDArray[Any]

LABEL_KEYS = ("labels", "label", "y")


@dataclass(frozen=True)
class Slot:
    """One resolved input: `shape` is a sample's, without the batch axis."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spec: InputSpec


def slots_of(inputs: tuple[InputSpec, ...]) -> tuple[Slot, ...]:
    """The resolved inputs; `DataError` where a name, shape or dtype is not set or not known."""
    slots = []
    for spec in inputs:
        if spec.name is None or spec.shape is None or spec.dtype is None:
            msg = f"input {spec.name or '?'} lacks its name, shape or dtype: {spec!r}"
            raise DataError(msg, hint="Set them in [[inputs]] of the workload.")
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError as err:
            msg = f"input {spec.name!r}: no data can be made for dtype {spec.dtype!r}"
            raise DataError(msg, hint="Use a numpy dtype, as in 'float32' or 'uint8'.") from err
        low, high = spec.value_range
        if not low < high:
            msg = f"input {spec.name!r}: value_range {low:g} to {high:g} is not a range"
            raise DataError(msg, hint="Give the lower end first.")
        slots.append(Slot(spec.name, spec.shape[1:], dtype, spec))
    if not slots:
        msg = "the model has no inputs to feed"
        raise DataError(msg)
    return tuple(slots)


def by_name(value: Mapping[str, Any], slots: tuple[Slot, ...], where: str) -> dict[str, Any]:
    """The entry of `value` for each input, by its name.

    A model with one input takes the only entry that is no label, whatever its name.
    """
    names = [slot.name for slot in slots]
    others = [key for key in value if key not in LABEL_KEYS]
    if len(names) == 1 and names[0] not in value and len(others) == 1:
        return {names[0]: value[others[0]]}
    for name in names:
        if name not in value:
            msg = f"{where} has no array {name!r}: found {', '.join(sorted(value)) or 'none'}"
            raise DataError(msg, hint=f"One array an input. {nearest(name, list(others))}")
    return {name: value[name] for name in names}


def label_key(value: Mapping[str, Any], slots: tuple[Slot, ...]) -> str | None:
    """The key of the labels: "labels", "label" or "y" where no input has that name."""
    names = {slot.name for slot in slots}
    return next((key for key in LABEL_KEYS if key in value and key not in names), None)


def plain_label(label: object) -> object:
    """A label of one value (numpy's, torch's) as Python's own; any other as it is."""
    if hasattr(label, "item") and getattr(label, "shape", None) == ():
        return label.item()
    return label


def take_array(array: Array, slot: Slot) -> Array:
    """`array` (one sample) as it is, or (x - mean) / std where `normalize_arrays` is set."""
    spec = slot.spec
    if not spec.normalize_arrays or array.shape != slot.shape:
        return array
    axis = 0 if spec.layout == "NCHW" else -1
    return to_dtype(normalize(array.astype(np.float32), spec, axis), slot.dtype)


def normalize(array: Array, spec: InputSpec, axis: int) -> Array:
    """(x - mean) / std over the channels on `axis`; one value serves all channels."""
    channels = array.shape[axis] if array.ndim else 1
    for key, values, change in (("mean", spec.mean, np.subtract), ("std", spec.std, np.divide)):
        if values is None:
            continue
        if len(values) not in (1, channels):
            msg = f"input {spec.name!r}: {key} has {len(values)} values for {channels} channels"
            raise DataError(msg, hint=f"Give 1 or {channels}.")
        if key == "std" and 0 in values:
            msg = f"input {spec.name!r}: std contains 0"
            raise DataError(msg, hint="Divide by something else.")
        shape = [1] * array.ndim
        if array.ndim:
            shape[axis] = len(values)
        array = change(array, np.asarray(values, dtype=np.float32).reshape(shape))
    return array


def to_dtype(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` as `dtype`; for integers rounded to nearest even and kept in their range."""
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        array = np.clip(np.rint(array), bounds.min, bounds.max)
    return np.ascontiguousarray(array.astype(dtype, copy=False))


def check_array(array: Array, slot: Slot, where: str) -> None:
    """`DataError` unless `array` has the input's sample shape and dtype, and no NaN."""
    if array.shape != slot.shape:
        msg = f"{where}: input {slot.name!r} found shape {array.shape}, expected {slot.shape}"
        raise DataError(msg, hint=_shape_remedy(array.shape, slot))
    if array.dtype != slot.dtype:
        msg = f"{where}: input {slot.name!r} found dtype {array.dtype}, expected {slot.dtype}"
        raise DataError(msg, hint=f"Convert it: array.astype({slot.dtype.name!r}).")
    if array.dtype.kind == "f" and np.isnan(array).any():
        count = int(np.isnan(array).sum())
        msg = f"{where}: input {slot.name!r} holds NaN in {count} of {array.size} values"
        raise DataError(msg, hint="Remove the sample, or mend what made it.")


def _shape_remedy(found: tuple[int, ...], slot: Slot) -> str:
    """What to do about a shape that does not fit; layouts are told apart on three axes."""
    if len(found) == 3:
        to_chw, to_hwc = (found[2], *found[:2]), (*found[1:], found[0])
        layout = slot.spec.layout
        if to_chw == slot.shape and layout != "NHWC":
            return "It fits after a NHWC to NCHW transpose: array.transpose(2, 0, 1) a sample."
        if to_hwc == slot.shape and layout != "NCHW":
            return "It fits after a NCHW to NHWC transpose: array.transpose(1, 2, 0) a sample."
    if found[1:] == slot.shape:
        return f"It has a leading axis of {found[0]} too many: give samples without a batch axis."
    return "Resize or reshape the data, or correct `shape` in [[inputs]]."
