"""Over the wire: the model's tensors in the chip's layout and back, as model.json says it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hailort_faults import BadInput

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

AGAIN = "Compile it again with this version of edgedeploy; model.json goes where the HEF goes."
FORMAT = 1
LAYOUTS = ("NCHW", "NHWC", None)
WIRE_DTYPES = ("uint8", "float32")
KEYS = {"compiler", "runtime", "hw_arch", "network", "inputs", "outputs"}


class Edge:
    """An input or output: by the model's name, shape and layout, and as the chip has it."""

    def __init__(self, said: dict[str, Any], path: Path) -> None:
        self.name: str = said["name"]
        self.layer: str = said["layer"]
        self.dtype: str = said["dtype"]
        self.shape = [int(size) for size in said["shape"]]
        self.layout: str | None = said["layout"]
        self.wire_shape = [int(size) for size in said["wire_shape"]]
        self.goes_in = "wire_dtype" in said
        self.wire_dtype: str = said.get("wire_dtype", "float32")
        self.scale: list[float] | None = said.get("scale")
        self.offset: list[float] | None = said.get("offset")
        self.reverse_channels = bool(said.get("reverse_channels"))
        problem = self.problem()
        if problem:
            msg = f"{path} says of {self.name!r} what cannot be: {problem}"
            raise BadInput(msg, AGAIN)

    def problem(self) -> str:
        """Why these entries contradict each other; "" where they do not."""
        four = len(self.shape) == 4 and self.shape[0] == 1
        counts = {len(values) for values in (self.scale, self.offset) if values is not None}
        checks = (
            (self.layout not in LAYOUTS, f"layout {self.layout!r}, expected one of {LAYOUTS}"),
            (self.wire_dtype not in WIRE_DTYPES, f"wire_dtype {self.wire_dtype!r}"),
            (
                math.prod(self.shape) != math.prod(self.wire_shape),
                f"shape {self.shape} has other elements than wire_shape {self.wire_shape}",
            ),
            (
                self.layout and (len(self.wire_shape) != 3 or (self.goes_in and not four)),
                f"layout {self.layout} with shape {self.shape}, wire_shape {self.wire_shape}",
            ),
            (
                self.layout and four and self.wire_shape != self.moved_shape(),
                f"shape {self.shape} in {self.layout} is not wire_shape {self.wire_shape}",
            ),
            (
                bool(counts - {1, self.channels()}),
                f"{sorted(counts)} values of scale and offset for {self.channels()} channels",
            ),
        )
        return next((text for wrong, text in checks if wrong), "")

    def moved_shape(self) -> list[int]:
        """(H, W, C) of a shape of four axes."""
        _, *sizes = self.shape
        return [*sizes[1:], sizes[0]] if self.layout == "NCHW" else sizes

    def channels(self) -> int:
        """How many channels the wire has: its last axis."""
        return self.wire_shape[-1] if self.wire_shape else 1

    def moved(self, value: Array) -> Array:
        """The model's axes in the order of the wire's, without the batch axis: (H, W, C)."""
        if self.layout == "NCHW":
            return value[0].transpose(1, 2, 0)
        if self.layout == "NHWC":
            return value[0]
        return value.reshape(self.wire_shape)

    def to_wire(self, value: Array) -> Array:
        """The model's array as the chip takes it: its own, contiguous, `wire_shape`, `wire_dtype`.

        wire = value * scale + offset a channel, channels turned round where said, and to uint8
        rounded to the nearest (a half to the even) and held within 0 to 255.
        """
        wire = self.moved(value).astype(np.float64)
        if self.scale is not None:
            wire *= np.asarray(self.scale)
        if self.offset is not None:
            wire += np.asarray(self.offset)
        if self.reverse_channels:
            wire = wire[..., ::-1]
        if self.wire_dtype == "uint8":
            wire = np.clip(np.rint(wire), 0, 255)
        return np.ascontiguousarray(wire, dtype=self.wire_dtype)

    def from_wire(self, wire: Array) -> Array:
        """What the chip gave, of any shape with these elements, as the model's array: a copy."""
        value = np.array(wire).reshape(self.wire_shape)
        if self.layout == "NCHW":
            value = value.transpose(2, 0, 1)
        return np.ascontiguousarray(value, dtype=self.dtype).reshape(self.shape)

    def described(self) -> dict[str, Any]:
        """Name, dtype and shape, as a runtime answers them."""
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape}


class Manifest:
    """model.json beside a HEF: what compiled it, for what, and its inputs and outputs."""

    def __init__(self, hef: str) -> None:
        self.hef = Path(hef, "model.hef") if Path(hef).is_dir() else Path(hef)
        path = self.hef.with_name("model.json")
        if not self.hef.is_file():
            msg = f"there is no HEF at {self.hef}"
            raise BadInput(msg, "Compile first; the artifact is the folder with model.hef.")
        said = read(path)
        self.compiler = str(said["compiler"])
        self.runtime = str(said["runtime"])
        self.hw_arch = str(said["hw_arch"])
        self.network = str(said["network"])
        try:
            self.inputs = [Edge(each, path) for each in said["inputs"]]
            self.outputs = [Edge(each, path) for each in said["outputs"]]
        except (KeyError, TypeError, ValueError) as error:
            msg = f"{path} does not describe its inputs and outputs: {error!r}"
            raise BadInput(msg, AGAIN) from error

    def verified(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs, if names, types and shapes are the model's; raises `BadInput`."""
        wanted = {edge.name: edge for edge in self.inputs}
        if set(inputs) != set(wanted):
            msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
            raise BadInput(msg, "Give one array for each of the model's inputs.")
        for name, value in inputs.items():
            edge = wanted[name]
            if str(value.dtype) != edge.dtype or list(value.shape) != edge.shape:
                expected = f"{edge.dtype} {tuple(edge.shape)}"
                msg = f"input {name!r} is {value.dtype} {value.shape}, expected {expected}"
                raise BadInput(msg, "Check the workload's shape and dtype for this input.")
        return inputs

    def wire(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The wire arrays of one inference by the chip's names; raises `BadInput`."""
        given = self.verified(inputs)
        return {edge.layer: edge.to_wire(given[edge.name]) for edge in self.inputs}

    def outcome(self, buffers: dict[str, Array]) -> dict[str, Array]:
        """The model's outputs of one inference from the chip's buffers, by the model's names."""
        return {edge.name: edge.from_wire(buffers[edge.layer]) for edge in self.outputs}


def read(path: Path) -> dict[str, Any]:
    """The contents of a model.json; raises `BadInput` where it is none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path} is missing: without it nothing says how the HEF's tensors are laid out"
        raise BadInput(msg, AGAIN) from error
    except (UnicodeDecodeError, ValueError) as error:
        msg = f"{path} is not JSON: {error}"
        raise BadInput(msg, AGAIN) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        found = said.get("format") if isinstance(said, dict) else type(said).__name__
        msg = f"{path} has format {found!r}, expected {FORMAT}"
        raise BadInput(msg, AGAIN)
    if KEYS - set(said):
        msg = f"{path} lacks {sorted(KEYS - set(said))}"
        raise BadInput(msg, AGAIN)
    return said
