# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["numpy>=1.26"]
# ///
"""The numbers that a Hailo-8 computes, by the Dataflow Compiler's emulator: no time is told.

The compiler's Python package hailo_sdk_client comes from the vendor's developer zone, not from an
index. Its quantized emulation is close to the chip's numbers and not bit-exact.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# it takes the tensors that the runtime on the chip takes
sys.path.append(str(Path(__file__).resolve().with_name("hailo")))
from hailort_faults import BadInput, Missing, Unsupported
from hailort_tensors import Manifest, read
from hailort_versions import is_standin, plain

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Table = dict[str, Any]

# `kept` is the compiler's folder where it is not ARTIFACT/../../kept; `batch` samples at once
OPTIONS: dict[str, Any] = {"kept": "", "batch": 8}
# samples given to the emulator in one call: it holds all of them in memory several times
SHARD_SAMPLES = 256
WHERE = (
    "Install the Dataflow Compiler's wheel (from the vendor's developer zone) and name its Python"
    " in EDGEDEPLOY_PYTHON_HAILO, or run it in the vendor's container (--container)."
)
state: dict[str, Emulated] = {}


class Emulated:
    """A quantized network of the compiler's, and how the model's tensors go in and come out."""

    def __init__(self, artifact: str, options: Table) -> None:
        sdk = toolkit()
        self.options = options
        self.manifest = Manifest(artifact)
        hef = self.manifest.hef
        folder = Path(options["kept"]) if options["kept"] else hef.parent.parent / "kept"
        archive = folder / "quantized.har"
        if not archive.is_file():
            msg = f"there is no {archive}: the emulator needs the quantized network kept there"
            raise BadInput(
                msg, "Compile again; option `kept` names the folder if it lies elsewhere."
            )
        if read(folder / "model.json") != read(hef.with_name("model.json")):
            msg = f"{folder} is not what was kept of {hef}: their model.json differ"
            raise BadInput(msg, "Compile it again; then neither may be changed.")
        self.context = sdk.InferenceContext.SDK_QUANTIZED
        self.runner = sdk.ClientRunner(hw_arch=self.manifest.hw_arch, har=str(archive))
        described = self.runner.get_hn_dict()
        self.shapes = {
            edge.layer: input_shape(described["layers"], edge.layer, edge.wire_shape)
            for edge in self.manifest.inputs
        }
        self.order = ordered(
            described["net_params"]["output_layers_order"],
            [edge.layer for edge in self.manifest.outputs],
            archive,
        )

    def forward(self, samples: dict[str, Array]) -> dict[str, Array]:
        """Outputs of N samples, arrays (N, *shape) by the model's names both ways."""
        manifest = self.manifest
        count = len(next(iter(samples.values())))
        wires = [
            manifest.wire({name: value[i] for name, value in samples.items()}) for i in range(count)
        ]
        feed = {
            layer: np.stack([wire[layer] for wire in wires]).reshape(count, *shape)
            for layer, shape in self.shapes.items()
        }
        with self.runner.infer_context(self.context) as context:
            found = self.runner.infer(context, feed, batch_size=min(self.options["batch"], count))
        # one output comes as an array, several as a list in the network's order
        values = list(found) if isinstance(found, list | tuple) else [found]
        buffers = dict(zip(self.order, (np.asarray(each) for each in values), strict=True))
        outputs = [
            manifest.outcome({layer: values[i] for layer, values in buffers.items()})
            for i in range(count)
        ]
        return {
            edge.name: np.stack([each[edge.name] for each in outputs]) for edge in manifest.outputs
        }


def probe() -> Table:
    """The version of the compiler that emulates."""
    return {"tools": {"hailo-dataflow-compiler": toolkit().__version__}}


def load(artifact: str, options: Table) -> Table:
    """Take up the quantized network that the compiler kept beside the artifact.

    Options: `kept`, the folder with quantized.har where it is not `ARTIFACT/../../kept`; `batch`,
    samples at once (8). Raises `Missing`, `BadInput`.
    """
    chosen = checked(options)
    state.clear()
    made, here = Manifest(artifact).compiler, toolkit().__version__
    if plain(made) != plain(here):
        msg = f"the artifact is of the Dataflow Compiler {made}, the one here is {here}"
        raise BadInput(msg, "Compile it again with this one, or name the Python of the other.")
    loaded = state["loaded"] = Emulated(artifact, chosen)
    return {
        "inputs": [edge.described() for edge in loaded.manifest.inputs],
        "outputs": [edge.described() for edge in loaded.manifest.outputs],
        "options": chosen,
    }


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`."""
    found = current().forward({name: np.asarray(value)[None] for name, value in inputs.items()})
    return {name: value[0] for name, value in found.items()}


def run_many(samples: dict[str, Array]) -> dict[str, Array]:
    """Many inferences: arrays of N samples in and out."""
    loaded = current()
    counts = {len(value) for value in samples.values()}
    if len(counts) != 1 or counts == {0}:
        msg = f"inputs have {sorted(counts)} samples, expected the same number of each, at least 1"
        raise BadInput(msg, "Give as many samples for each input.")
    parts = [
        loaded.forward({name: value[at : at + SHARD_SAMPLES] for name, value in samples.items()})
        for at in range(0, counts.pop(), SHARD_SAMPLES)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def bind(inputs: dict[str, Array]) -> None:
    """Raise `Unsupported`: there is nothing here that may be timed."""
    msg = "the emulator on this host computes the chip's numbers; its time is not the chip's"
    raise Unsupported(msg, "Measure on the chip.")


def timed(inputs: dict[str, Array], warm_up: int, count: int) -> Table:
    """Nothing is timed; that it is asked at all keeps the host's own loop out."""
    note = "numbers emulated on this host by the Dataflow Compiler; no time, no energy"
    return {"clock": "none", "latency_s": None, "cycles": None, "instructions": None} | {
        "notes": [note]
    }


def facts() -> Table:
    """The compiler's version; that these numbers are emulated, and whether by a stand-in."""
    found = {**probe(), "device": "SDK_QUANTIZED on this host", "emulated": True}
    marked = {"virtual": True} if is_standin(found["tools"]["hailo-dataflow-compiler"]) else {}
    return {**found, **marked, **({"batch": current().options["batch"]} if state else {})}


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """No times, so no layers."""
    return []


def memory() -> dict[str, int]:
    """This process's memory is not the device's."""
    return {}


def toolkit() -> ModuleType:
    """The package hailo_sdk_client; raises `Missing`."""
    try:
        return importlib.import_module("hailo_sdk_client")
    except ImportError as error:
        msg = f"the Dataflow Compiler's Python package hailo_sdk_client cannot be imported: {error}"
        raise Missing(msg, WHERE) from error


def input_shape(described: Table, layer: str, wire: list[int]) -> list[int]:
    """The axes of an input as the network has them, without the batch axis: (H, W, C)."""
    shapes = described.get(layer, {}).get("input_shapes") or [[-1, *wire]]
    return [int(size) for size in shapes[0][1:]]


def ordered(found: list[str], said: list[str], archive: Path) -> list[str]:
    """Our output layers in the network's order, by whole name or the part behind the slash."""
    short = {layer.rpartition("/")[2]: layer for layer in said}
    names = [layer if layer in said else short.get(layer.rpartition("/")[2], "") for layer in found]
    if sorted(names) != sorted(said):
        msg = f"{archive} has outputs {found}, model.json says {said}"
        raise BadInput(msg, "They are not of one compilation: compile again.")
    return names


def current() -> Emulated:
    """What `load` made last."""
    if not state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["loaded"]


def checked(options: Table) -> Table:
    """The options given over the defaults; an unknown key or value is refused."""
    for key, value in options.items():
        if key not in OPTIONS:
            close = difflib.get_close_matches(str(key), list(OPTIONS), n=1, cutoff=0.4)
            msg = f"option {key!r} is not known"
            raise BadInput(msg, f"Did you mean {close[0]!r}?" if close else f"Known: {[*OPTIONS]}.")
        if type(value) is not type(OPTIONS[key]) or (key == "batch" and value < 1):
            msg = f"option {key} is {value!r}, expected a value like {OPTIONS[key]!r}"
            raise BadInput(msg, "batch is 1 or more; kept is a folder.")
    return {**OPTIONS, **options}
