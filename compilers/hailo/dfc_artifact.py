"""What goes into the compiler and what is left of it: data, sidecar, kept files, commands."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from dfc_calibration import Samples, file_name, written
from dfc_faults import BadInput
from dfc_log import Capture, optimization, warned
from dfc_network import name_of, own_normalization, read
from dfc_options import RUNTIMES
from dfc_steps import emulated, inside
from dfc_wire import as_sent, described_inputs, described_output, normalized, on_chip, to_model
from dfc_wire import to_wire as wired

if TYPE_CHECKING:
    from types import ModuleType

    from dfc_network import Network
    from dfc_steps import Job

    Array = np.ndarray[Any, Any]
    Table = dict[str, Any]

KEPT = {"parsed": "native.har", "quantized": "quantized.har", "compiled": "compiled.har"}
CONTEXTS = (
    ("native", "SDK_NATIVE", "native.har"),
    ("optimized", "SDK_FP_OPTIMIZED", "quantized.har"),
)


class Prepared:
    """A model and its calibration set as the compiler gets them; the set lies in `folder`."""

    def __init__(self, network: Network, name: str, entries: list[Table], folder: Path) -> None:
        self.network, self.name, self.entries, self.folder = network, name, entries, folder
        self.count = 0
        self.warnings: list[str] = []

    def files(self) -> list[Path]:
        """The files of the calibration set, one an input; none where no data was given."""
        if not self.count:
            return []
        return [self.file(each) for each in self.entries]

    def file(self, entry: Table) -> Path:
        """The calibration set of one input."""
        names = [file_name(each["name"]) for each in self.entries]
        name = file_name(entry["name"])
        if names.count(name) > 1:  # told apart by characters that a file's name does without
            name = file_name(f"{self.entries.index(entry) + 1}-{entry['name']}")
        return self.folder / name

    def load(self) -> dict[str, Array]:
        """The calibration set by the names of the inputs, as memory maps."""
        names = [each["name"] for each in self.entries]
        arrays = [np.load(str(path), mmap_mode="r") for path in self.files()]
        return dict(zip(names, arrays, strict=True))

    def save(self, path: Path) -> None:
        """Write the model with all nodes named."""
        onnx.save(self.network.proto, str(path))


def ready(
    model: str,
    calibration: str | None,
    declared: list[Table] | None,
    chosen: Table,
    folder: Path,
) -> Prepared:
    """The model read and described, and its calibration set written into `folder`.

    Raises `BadInput` for data that does not fit what the workload declares of the inputs, and for a
    model that normalizes an input which the chip normalizes too; `Unsupported` as `read` does.
    """
    network = read(model)
    entries = described_inputs(network.inputs, declared, chosen)
    specs = {spec["name"]: spec for spec in declared or []}
    for each in entries:
        spec = specs.get(each["name"], {})
        normalizes = each["scale"] is not None and (spec.get("mean") or spec.get("std"))
        node = own_normalization(network, each["name"]) if normalizes else None
        if node and chosen["own_normalization"] == "refuse":
            msg = (
                f"double normalization: the model begins with one of its own, node {node}, and the"
                f" workload's mean and std of input {each['name']!r} are a second"
            )
            hint = (
                "Leave mean and std out of [[inputs]] and their effect out of the data; where the"
                ' model really wants both, set `own_normalization = "keep"`.'
            )
            raise BadInput(msg, hint)
    sha256 = hashlib.sha256(network.proto.SerializeToString(deterministic=True)).hexdigest()
    found = Prepared(network, name_of(chosen["network"], model, sha256), entries, folder)
    if calibration is None:
        return found
    with tempfile.TemporaryDirectory(prefix="samples-", dir=str(folder)) as work:
        samples = Samples(calibration, entries, Path(work))
        wanted = chosen["calibset_size"] or samples.count
        found.count = min(wanted, samples.count)
        if wanted > samples.count:
            found.warnings.append(
                f"calibset_size is {wanted}, and {samples.count} samples are given"
            )
        for each in entries:
            chip = on_chip(each, specs.get(each["name"]), chosen)
            written(samples, each, chip, found.count, found.file(each))
    return found


def described(prepared: Prepared, ends: Table | None, version: str, chosen: Table) -> Table:
    """The artifact's sidecar; without `ends`, what is known of it before the model is parsed."""
    outputs = [
        described_output(each, *(ends["outputs"][each["name"]] if ends else (None, None)))
        for each in prepared.network.outputs
    ]
    plain = version.partition("+")[0]
    return {
        "format": 1,
        "compiler": version,
        "runtime": RUNTIMES.get(".".join(plain.split(".")[:2]), ""),
        "hw_arch": chosen["hw_arch"],
        "network": prepared.name,
        "batch_size": chosen["batch_size"],
        "inputs": prepared.entries,
        "outputs": outputs,
    }


def kept_files(job: Job, script: str, sidecar: str, folder: Path) -> Path:
    """The folder of what people read and what the emulators need, filled."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir(parents=True)
    logs = []
    for stage, name in KEPT.items():
        shutil.copyfile(str(job.states.path(stage, job.keys[stage])), str(folder / name))
        logs.append(f"== {stage} ({job.made[stage]})\n{job.logs[stage]}")
    texts = {"model.alls": script, "model.json": sidecar, "log.txt": "\n".join(logs)}
    for name, text in texts.items():
        Path(folder, name).write_text(text, encoding="utf-8")
    return folder


def effective(logs: dict[str, str], asked: Table, chosen: Table, prepared: Prepared) -> Table:
    """Effective options, downgrades and warnings, by what the SDK printed."""
    done = optimization(logs["quantized"], asked, prepared.count)
    options = {key: value for key, value in chosen.items() if key != "given"}
    for key in ("optimization_level", "compression_level"):
        options[f"{key}_asked"], options[key] = asked[key], done[key]
    options["calibset_size"] = done["calibset_size"]
    warnings = [*prepared.warnings, *warned(logs["parsed"])]
    warnings += [*done["warnings"], *warned(logs["compiled"])]
    return {
        "options": options,
        "downgrades": done["downgrades"],
        "warnings": list(dict.fromkeys(warnings)),
        "steps": done["steps"],
    }


def commands(prepared: Prepared, chosen: Table) -> str:
    """The vendor's own commands for the files that were written out."""

    def line(*words: str) -> str:
        return " ".join(shlex.quote(word) for word in words)

    name, arch, network = prepared.name, chosen["hw_arch"], prepared.network
    starts = [each["name"] for each in network.inputs]
    shapes = ["[" + ",".join(str(size) for size in each["shape"]) + "]" for each in network.inputs]
    sets = [path.name for path in prepared.files()] or ["calibration.npy"]
    text = [
        "# Without -y: it answers yes to other end nodes too. The outputs must be these, in this",
        f"# order: {', '.join(each['name'] for each in network.outputs)}",
        line("hailo", "parser", "onnx", "model.onnx", "--net-name", name, "--hw-arch", arch)
        + f" --start-node-names {line(*starts)} --end-node-names {line(*network.end_nodes())}"
        + f" --tensor-shapes {line(*shapes)} --har-path {line(f'{name}.har')}",
        line("hailo", "optimize", f"{name}.har", "--hw-arch", arch, "--calib-set-path", sets[0])
        + f" --model-script model.alls --output-har-path {line(f'{name}_quantized.har')}",
        line("hailo", "compiler", f"{name}_quantized.har", "--hw-arch", arch, "--output-dir", "."),
    ]
    if len(sets) > 1:
        text.insert(3, "# several inputs: runner.optimize takes a dict, layer name to array, of")
        text.insert(4, f"# {', '.join(sets)}")
    return "\n".join(text) + "\n"


def step_outputs(sdk: ModuleType, kept: Path, inputs: str, output: Path) -> list[Table]:
    """Write the outputs of the SDK's steps in float, an .npz each; their names and paths."""
    try:
        sidecar = json.loads((kept / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{kept / 'model.json'} cannot be read: {error}"
        raise BadInput(
            msg, "Compile the model again; its answer names the folder `kept`."
        ) from error
    found = []
    with tempfile.TemporaryDirectory(prefix="hailo-", dir=str(output)) as folder:
        work = Path(folder)
        samples = Samples(inputs, sidecar["inputs"], work)
        arrays = {
            each["name"]: np.asarray(samples.arrays[each["name"]]) for each in sidecar["inputs"]
        }
        for name, context, har in CONTEXTS:
            data = {}
            for each in sidecar["inputs"]:
                values = arrays[each["name"]]
                sent = as_sent(wired(values, each), each).astype(np.float32)
                data[each["name"]] = normalized(values, each) if name == "native" else sent
            with Capture(work / f"{name}.log"), inside(work):
                results = emulated(sdk, kept / har, sidecar, data, context)
            path = output / f"{name}.npz"
            outputs = {
                each["name"]: to_model(results[each["name"]], each) for each in sidecar["outputs"]
            }
            save_arrays(path, outputs)
            found.append({"name": name, "path": str(path)})
    return found


def save_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write an .npz whose names may be any, `file` among them."""
    with zipfile.ZipFile(str(path), "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
