# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["esp-ppq==1.3.12", "torch==2.13.0", "numpy>=1.26"]
# ///
"""The numbers that an ESP32 with ESP-DL computes, by esp-ppq on this host: no time is told."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from types import ModuleType

Array = npt.NDArray[Any]
Table = dict[str, Any]
Graph = Any  # esp-ppq's BaseGraph, imported too late to be named
TOOLS = ("esp-ppq", "torch", "numpy")
OPTIONS: Table = {"kept": "", "threads": 1, "batch": 32}
LIMITS = {8: (-128, 127), 16: (-32768, 32767)}
HEADER_BYTES = 16


class Missing(Exception):
    """esp-ppq is not there; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(Exception):
    """This runtime has no such thing, and nothing is broken; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Exception):
    """An option, artifact or input that is wrong; `hint` is the remedy."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Loaded:
    """A quantized graph, proven to be the one in the artifact, and how its ends are laid out."""

    def __init__(self, artifact: Path, options: Table) -> None:
        from esp_ppq.executor import TorchExecutor

        steps = device_graph()
        folder = Path(options["kept"]) if options["kept"] else artifact.parent.parent / "kept"
        graph, first = proven(steps, artifact, folder)
        self.options = options
        self.graph = graph
        self.inputs, self.outputs, self.exponents = layout(artifact)
        self.order = list(graph.inputs)
        self.names = list(graph.outputs)
        self.executor = TorchExecutor(graph=graph, device="cpu")
        self.batch = options["batch"] if self.takes_batches(first) else 1

    def forward(self, feed: dict[str, Array]) -> dict[str, Array]:
        """The outputs for one sample, or for several along axis 0."""
        import torch

        ends = {end["name"]: end for end in self.inputs}
        tensors = [torch.from_numpy(self.held(ends[name], feed[name])) for name in self.order]
        found = self.executor.forward(inputs=tensors)
        pairs = zip(self.names, found, strict=True)
        # int16 is computed in double, as the chip's sums are exact; its values fit into a float
        return {name: value.numpy().astype(np.float32) for name, value in pairs}

    def held(self, end: Table, value: Array) -> Array:
        """An input as the device gets it, in floats: a layer may round it again in its own way."""
        bits, exponent = self.exponents[end["name"]]
        if bits == 32:
            return np.ascontiguousarray(value)
        return np.ldexp(rounded(value, bits, exponent, end["rounding"]), exponent).astype(
            np.float32
        )

    def takes_batches(self, first: list[Any]) -> bool:
        """Whether samples one after another in a batch give what each alone gives, bit by bit.

        A model of batch 1 often has that 1 in the shapes it reshapes to, which is freed for this.
        """
        ends = [*self.inputs, *self.outputs]
        if self.options["batch"] < 2 or any(end["shape"][:1] != [1] for end in ends):
            return False
        trial = [first, [-0.5 * value for value in first], [value.flip(-1) for value in first]]
        samples = [
            {name: value.numpy() for name, value in zip(self.order, values, strict=True)}
            for values in trial
        ]
        alone = [self.forward(sample) for sample in samples]
        free_batch(self.graph)
        together = {name: np.concatenate([s[name] for s in samples]) for name in self.order}
        try:
            found = self.forward(together)
        except Exception as error:  # whatever esp-ppq raises: it only means one by one
            print(f"one sample at a time: {error!r}", file=sys.stderr)
            return False
        return all(
            found[name].shape[:1] == (len(samples),)
            and np.array_equal(found[name], np.concatenate([each[name] for each in alone]))
            for name in self.names
        )


state: dict[str, Loaded] = {}


def probe() -> Table:
    """The versions that decide what the numbers are."""
    try:
        return {"tools": {name: importlib.metadata.version(name) for name in TOOLS}}
    except importlib.metadata.PackageNotFoundError as error:
        msg = f"{error.name} is not installed"
        raise Missing(msg, "pip install esp-ppq==1.3.12 torch==2.13.0") from error


def load(artifact: str, options: Table) -> Table:
    """Take up the quantized graph that the compiler kept, and prove that it is the artifact's.

    The proof: exported again, with the outputs computed here as test vectors, it gives the
    artifact's bytes. Options: `kept`, the folder with the graph where it is not
    `ARTIFACT/../../kept`; `threads` (1); `batch`, samples at once where the graph allows (32).
    Raises `BadInput`.
    """
    import torch

    chosen = checked(options)
    state.clear()
    torch.set_num_threads(1)  # as when it was compiled
    loaded = state["loaded"] = Loaded(Path(artifact), chosen)
    torch.set_num_threads(chosen["threads"])
    return {
        "inputs": [described(end) for end in loaded.inputs],
        "outputs": [described(end) for end in loaded.outputs],
        "options": chosen,
    }


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: float arrays by the model's names in and out. Raises `BadInput`."""
    loaded = current()
    found = loaded.forward(verified(loaded, inputs, ()))
    return {end["name"]: found[end["name"]].reshape(end["shape"]) for end in loaded.outputs}


def run_many(samples: dict[str, Array]) -> dict[str, Array]:
    """Many inferences: arrays of N samples in and out, in batches where the graph allows."""
    loaded = current()
    counts = {len(value) for value in samples.values()} or {0}
    feed = verified(loaded, samples, (max(counts),))
    parts: dict[str, list[Array]] = {end["name"]: [] for end in loaded.outputs}
    for start in range(0, max(counts), loaded.batch):
        piece = {name: value[start : start + loaded.batch] for name, value in feed.items()}
        count = len(next(iter(piece.values())))
        flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in piece.items()}
        if loaded.batch == 1:
            flat = {name: value[0] for name, value in piece.items()}
        found = loaded.forward(flat)
        for end in loaded.outputs:
            parts[end["name"]].append(found[end["name"]].reshape(count, *end["shape"]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def run_quantized(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference as the device holds its outputs: its integers, its order of axes."""
    loaded = current()
    found = run(inputs)
    return {end["name"]: on_device(loaded, end, found[end["name"]]) for end in loaded.outputs}


def quantized_inputs(inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs as they are given to the device: its integers, its order of axes."""
    loaded = current()
    feed = verified(loaded, inputs, ())
    return {end["name"]: on_device(loaded, end, feed[end["name"]]) for end in loaded.inputs}


def on_device(loaded: Loaded, end: Table, value: Array) -> Array:
    """A float array of the model as the device's integers; floats where the device has floats."""
    bits, exponent = loaded.exponents[end["name"]]
    moved = value.transpose(end["perm"]) if end["perm"] else value
    if bits == 32:
        return np.ascontiguousarray(moved)
    steps = rounded(moved, bits, exponent, end["rounding"])
    return np.ascontiguousarray(steps.astype(f"int{bits}"))


def rounded(value: Array, bits: int, exponent: int, rounding: str) -> Array:
    """Floats in steps of 2^exponent, whole numbers within `bits` bits in double precision."""
    scaled = np.ldexp(value.astype(np.float64), -exponent)
    whole = np.floor(scaled + 0.5) if rounding == "half_up" else np.rint(scaled)
    clipped: Array = np.clip(whole, *LIMITS[bits])
    return clipped


def bind(inputs: dict[str, Array]) -> None:
    """Raise `Unsupported`: there is nothing here that may be timed."""
    msg = "esp-ppq on this host computes the chip's numbers; its time is not the chip's"
    raise Unsupported(msg, "Measure on the board, or count instructions on a virtual one.")


def timed(inputs: dict[str, Array], warm_up: int, count: int) -> Table:
    """Nothing is timed; that it is asked at all keeps the host's own loop out."""
    note = "numbers emulated on this host by esp-ppq; no time, no energy"
    return {"clock": "none", "latency_s": None, "cycles": None, "instructions": None} | {
        "notes": [note]
    }


def facts() -> Table:
    """Versions, and how many samples are computed at once."""
    found = {**probe(), "device": "esp-ppq's TorchExecutor on this host", "emulated": True}
    return found | ({"batch": current().batch} if state else {})


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """No times, so no layers."""
    return []


def memory() -> dict[str, int]:
    """This process's memory is not the device's."""
    return {}


def device_graph() -> ModuleType:
    """The compiler's module that keeps graphs and exports them; it imports esp-ppq."""
    path = Path(__file__).resolve().parents[2] / "compilers" / "espdl" / "device_graph.py"
    spec = importlib.util.spec_from_file_location("edgedeploy_espdl_device_graph", path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"{path} does not exist: the emulator shares it with the compiler"
        raise Missing(msg, "Install edgedeploy whole.")
    module = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    return module


def proven(steps: ModuleType, artifact: Path, folder: Path) -> tuple[Graph, list[Any]]:
    """The kept graph and its first sample, if exporting it gives the artifact's bytes."""
    try:
        wanted = artifact.read_bytes()
        graph, first, mlperf = steps.restore(folder)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{artifact} cannot be emulated: {error}"
        hint = "Compile it again; option `kept` names the folder if it lies elsewhere."
        raise BadInput(msg, hint) from error
    with tempfile.TemporaryDirectory(prefix="espdl-") as work:
        again = Path(work, "model.espdl")
        steps.write(graph, first, mlperf, again, text=False)
        found = again.read_bytes()
    if found != wanted:
        place = next(
            (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b),
            min(len(found), len(wanted)),
        )
        msg = (
            f"{artifact} is not what {folder} is kept for: exported again with esp-ppq "
            f"{importlib.metadata.version('esp-ppq')} it has {len(found)} bytes, the artifact "
            f"{len(wanted)}, and they differ from byte {place} on"
        )
        raise BadInput(msg, "Compile it again; then neither may be changed.")
    return graph, first


def layout(artifact: Path) -> tuple[list[Table], list[Table], dict[str, tuple[int, int]]]:
    """Inputs, outputs (by the model's names), and bits and exponent of each, as in the artifact."""
    from esp_ppq.parser.espdl.FlatBuffers.Dl.Model import Model
    from esp_ppq.parser.espdl.FlatBuffers.Dl.TensorDataType import TensorDataType
    from esp_ppq.parser.espdl.FlatBuffers.Dl.TensorTypeAndShape import TensorTypeAndShape

    model = Model.GetRootAs(artifact.read_bytes()[HEADER_BYTES:], 0)
    entries = (model.MetadataProps(i) for i in range(model.MetadataPropsLength()))
    metadata = {entry.Key(): entry.Value() for entry in entries}
    kept = json.loads(metadata[b"edgedeploy"])
    bits = {TensorDataType.INT8: 8, TensorDataType.INT16: 16, TensorDataType.FLOAT: 32}
    graph, exponents = model.Graph(), {}
    for side, get in (("inputs", graph.Input), ("outputs", graph.Output)):
        for place, end in enumerate(kept[side]):
            value = get(place)
            kind, table = TensorTypeAndShape(), value.ValueInfoType().Value()
            kind.Init(table.Bytes, table.Pos)
            exponent = int(value.Exponents(0)) if value.ExponentsLength() else 0
            exponents[end["name"]] = (bits[kind.ElemType()], exponent)
            end["rounding"] = kept["rounding"]
    return kept["inputs"], kept["outputs"], exponents


def free_batch(graph: Graph) -> None:
    """Let the batch axis pass through reshapes to a fixed shape that begins with 1."""
    for op in graph.operations.values():
        if op.type == "Reshape" and op.inputs[1].is_parameter and op.inputs[0].shape[:1] == [1]:
            shape = op.inputs[1].value
            if shape.ndim == 1 and len(shape) and int(shape[0]) == 1:
                shape = shape.clone()
                shape[0] = 0 if (shape == -1).any() else -1
                op.inputs[1].value = shape


def described(end: Table) -> Table:
    """An input or output as the contract has it."""
    return {key: end[key] for key in ("name", "dtype", "shape")}


def current() -> Loaded:
    """What `load` made last."""
    if not state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["loaded"]


def verified(loaded: Loaded, inputs: dict[str, Array], count: tuple[int, ...]) -> dict[str, Array]:
    """The inputs, if names, types and shapes (behind `count`) are the model's."""
    wanted = {end["name"]: end for end in loaded.inputs}
    if set(inputs) != set(wanted):
        msg = f"inputs given are {sorted(inputs)}, the model's are {sorted(wanted)}"
        raise BadInput(msg, "Give one array for each of the model's inputs.")
    for name, value in inputs.items():
        shape = (*count, *wanted[name]["shape"])
        if str(value.dtype) != wanted[name]["dtype"] or value.shape != shape:
            expected = f"{wanted[name]['dtype']} {shape}"
            msg = f"input {name!r} is {value.dtype} {value.shape}, expected {expected}"
            raise BadInput(msg, "Check the workload's shape and dtype for this input.")
    return inputs


def checked(options: Table) -> Table:
    """The options given over the defaults; an unknown key or value is refused."""
    for key, value in options.items():
        if key not in OPTIONS:
            close = difflib.get_close_matches(str(key), list(OPTIONS), n=1, cutoff=0.4)
            msg = f"option {key!r} is not known"
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {list(OPTIONS)}."
            raise BadInput(msg, hint)
        if type(value) is not type(OPTIONS[key]) or (key != "kept" and value < 1):
            msg = f"option {key} is {value!r}, expected a value like {OPTIONS[key]!r}"
            raise BadInput(msg, "threads and batch are 1 or more; kept is a folder.")
    return {**OPTIONS, **options}
