"""What is deployed and how it is judged: a TOML file, a model file, or a Python module."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgedeploy.errors import InputError, nearest
from edgedeploy.records import Record
from edgedeploy.toml import decode, read_toml

BUILT_IN = Path(__file__).with_name("workloads")
MODEL_SUFFIXES = (".onnx", ".pt2", ".pt", ".pth", ".ts")

ModelFormat = Literal["python", "onnx", "exported_program", "torchscript", "state_dict"]
DataLayout = Literal["images", "npz", "cifar10", "imagenet", "python", "seeded"]
Color = Literal["rgb", "bgr", "gray"]
Fit = Literal["stretch", "crop", "letterbox"]


class InputSpec(Record):
    """One input of the model and how raw data becomes it.

    `shape` includes the batch axis. Image data is resized (`fit`; `short_side` first where given),
    put in `color` order, scaled to `value_range` from 0..255, then (x - mean) / std per channel,
    then laid out as `layout` ("NCHW" or "NHWC"). Arrays (.npz, Python loaders) are taken as they
    are, but for `mean` and `std` when `normalize_arrays` is set.
    """

    name: str | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    color: Color = "rgb"
    fit: Fit = "stretch"
    short_side: int | None = None
    normalize_arrays: bool = False


class DataSpec(Record):
    """Where samples come from.

    `data` is a path (relative to the workload's file, then to `EDGEDEPLOY_DATA`) or, for layout
    "python", `module:function` or `file.py:function` called with `split`. "seeded" needs no data:
    values drawn from a fixed seed in each input's range. `count` of None takes all.
    """

    layout: DataLayout
    data: str = ""
    split: str = "train"
    count: int | None = None
    seed: int = 0


class EvaluationSpec(DataSpec):
    """An evaluation set and the metric that judges the outputs on it."""

    metric: str = "top1"
    output: str | None = None


class ModelSpec(Record):
    """The model's source.

    `source` is `module:callable` or `file.py:callable` returning an `nn.Module`, or the path of an
    .onnx, .pt2 (exported program) or TorchScript file. With `weights` (a state_dict as .pt, .pth,
    .th or .safetensors; loaded as data only) the callable names the architecture.
    """

    source: str
    format: ModelFormat | None = None
    weights: str | None = None
    weights_key: str | None = None
    weights_prefix: str = ""
    arguments: dict[str, Any] = {}
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto"
    outputs: tuple[str, ...] = ()


class Workload(Record):
    """What is deployed and how it is judged; unknown keys are refused.

    `end_nodes` are the nodes or values behind which the graph is cut for a target that cannot run
    all of it; the rest runs on the host.
    """

    name: str
    model: ModelSpec
    description: str = ""
    inputs: tuple[InputSpec, ...] = ()
    calibration: DataSpec | None = None
    evaluation: EvaluationSpec | None = None
    verify_samples: int = 8
    end_nodes: tuple[str, ...] = ()
    quantize_options: dict[str, Any] = {}
    compile_options: dict[str, Any] = {}
    run_options: dict[str, Any] = {}
    folder: str = ""


def built_in_workloads() -> dict[str, Path]:
    """Name to path of the workloads that come with the package."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"))}


def load_workload(source: str | Path, **changes: Any) -> Workload:
    """A workload from a built-in name, a .toml file, a model file or `module:callable`.

    Raises `InputError` for an unknown name (with the nearest), a wrong key or type, a missing file.
    """
    text = str(source)
    path = Path(text)
    if text in built_in_workloads():
        workload = _read_toml(built_in_workloads()[text])
    elif path.suffix == ".toml":
        workload = _read_toml(path)
    elif path.suffix in MODEL_SUFFIXES:
        require_file(path, "model")
        workload = Workload(
            name=path.stem, model=ModelSpec(source=path.name), folder=str(path.resolve().parent)
        )
    elif ":" in text:
        name = text.rpartition(":")[2]
        workload = Workload(name=name, model=ModelSpec(source=text), folder=str(Path.cwd()))
    else:
        msg = (
            f"{text!r} is neither a built-in workload nor a .toml file nor a model"
            f" ({', '.join(MODEL_SUFFIXES)}, module:callable)"
        )
        raise InputError(
            msg,
            hint=nearest(text, list(built_in_workloads())),
        )
    return msgspec.structs.replace(workload, **changes) if changes else workload


def require_file(path: Path, what: str) -> Path:
    """`path` if it is a readable, non-empty file; else an `InputError` saying what is wrong."""
    if path.is_dir():
        msg = f"{what} {path} is a folder, not a file"
        raise InputError(msg, hint="Name the file itself.")
    if not path.exists():
        siblings = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        msg = f"{what} {path} does not exist"
        raise InputError(msg, hint=nearest(path.name, siblings))
    if not os.access(path, os.R_OK):
        msg = f"no permission to read {what} {path}"
        raise InputError(msg, hint=f"chmod +r {path}")
    if path.stat().st_size == 0:
        msg = f"{what} {path} is empty (0 bytes)"
        raise InputError(msg, hint="Export or copy it again.")
    return path


def find_data(name: str, folder: str) -> Path:
    """A data path: as given if absolute, beside the workload, else under `EDGEDEPLOY_DATA`."""
    path = Path(name).expanduser()
    root = os.environ.get("EDGEDEPLOY_DATA", "")
    candidates = [path] if path.is_absolute() else [Path(folder) / path]
    if root and not path.is_absolute():
        candidates.append(Path(root) / path)
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    looked = " and ".join(str(c) for c in candidates)
    hint = "Check the path." if root else "Set EDGEDEPLOY_DATA to the folder that holds the data."
    msg = f"data {name!r} not found: looked at {looked}"
    raise InputError(msg, hint=hint)


def _read_toml(path: Path) -> Workload:
    table = read_toml(path, "workload")
    table.setdefault("name", path.stem)
    table["folder"] = str(path.resolve().parent)
    return decode(table, Workload, f"workload {path}")
