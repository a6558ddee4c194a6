"""Weights that one protobuf cannot hold: they stay in files beside the model, never in memory."""

import hashlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

from edgedeploy.errors import ExportError

# A tensor this small may be a shape that the graph computes with: it is needed in the graph.
EMBED_BYTES = 65_536
DIGEST_KEY = "weights_sha256"
HINT = "Its external data must lie beside it, in the place it was exported to."


def external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The weights kept in files."""
    return [tensor for tensor in model.graph.initializer if _outside(tensor)]


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph, those in attributes and in the bodies of control flow included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from tensors(body)


def weight_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files that hold the weights of a model in `folder`.

    Raises `ExportError` for one that is not there, is cut short, or lies outside the folder: a
    model may come from anywhere.
    """
    root = folder.resolve()
    found: dict[Path, int] = {}
    for tensor in tensors(model.graph):
        if not _outside(tensor):
            continue
        info = ExternalDataInfo(tensor)
        path = (root / info.location).resolve()
        if not path.is_relative_to(root):
            msg = f"the model's weights are said to lie at {info.location}, outside its folder"
            raise ExportError(msg, hint=HINT)
        if not path.is_file():
            msg = f"the model's weights {path} do not exist"
            raise ExportError(msg, hint=HINT)
        found[path] = max(found.get(path, 0), (info.offset or 0) + _size(tensor))
    for path, end in found.items():
        if path.stat().st_size < end:
            msg = f"the model's weights {path} are cut short: {path.stat().st_size} bytes of {end}"
            raise ExportError(msg, hint="Export or copy them again.")
    return list(found)


def embed_weights(model: onnx.ModelProto, folder: Path, *, all_of_them: bool) -> None:
    """Load weights from their files into the model: all, or those too small to be left outside."""
    for tensor in tensors(model.graph):
        if _outside(tensor) and (all_of_them or _size(tensor) <= EMBED_BYTES):
            load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def place_weights(model: onnx.ModelProto, source: Path, folder: Path) -> None:
    """Copy the weight files of a model in `source` under `folder`, and point the model at them.

    Their hash goes into the model's metadata, so that the model's own hash stands for all of it.
    """
    digest = hashlib.sha256()
    moved = source.resolve() != folder.resolve()
    for path in weight_files(model, source):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        if moved:
            # a link would do, but a runtime that maps the file touches the user's own
            place = folder / "weights" / path.relative_to(source.resolve())
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    for tensor in external(model) if moved else ():
        for entry in tensor.external_data:
            if entry.key == "location":
                inside = (source / entry.value).resolve().relative_to(source.resolve())
                entry.value = f"weights/{inside.as_posix()}"
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, properties | {DIGEST_KEY: digest.hexdigest()})


def _outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _size(tensor: onnx.TensorProto) -> int:
    width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    said = ExternalDataInfo(tensor).length
    return int(said) if said else math.prod(tensor.dims) * width
