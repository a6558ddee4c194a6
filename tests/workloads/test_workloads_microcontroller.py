"""The built-in workloads small enough for a microcontroller: models, inputs, operators, data."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch

from edgedeploy.data import open_dataset
from edgedeploy.errors import InputError
from edgedeploy.graph.simplify import simplify
from edgedeploy.metrics import make_metric
from edgedeploy.source import load_torch
from edgedeploy.workload import load_workload
from edgedeploy.zoo import dscnn, yunet

# name: sample, outputs, calibration samples, range of their values
SEEDED: dict[str, tuple[tuple[int, ...], list[tuple[int, ...]], int, tuple[float, float]]] = {
    "cropnet": ((3, 224, 224), [(1, 4)], 32, (-2.12, 2.64)),
    "mobilenetv2-035-96": ((3, 96, 96), [(1, 2)], 64, (-1.0, 1.0)),
    "pmridd2-64": ((3, 64, 64), [(1, 3, 64, 64)], 64, (0.0, 1.0)),
    "pmridd2-128": ((3, 128, 128), [(1, 3, 128, 128)], 64, (0.0, 1.0)),
    "rac-n0": ((3, 224, 224), [(1, 64, 28, 28)], 32, (-2.12, 2.64)),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_ones_need_no_data_and_calibrate_on_photographs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEDEPLOY_DATA", raising=False)
    shape, outputs, count, (low, high) = SEEDED[name]
    workload = load_workload(name)
    assert workload.inputs[0].shape == (1, *shape)
    assert workload.evaluation is None
    assert workload.calibration
    dataset = open_dataset(workload.calibration, workload.inputs, workload.folder)
    arrays = [sample.arrays for sample in dataset]
    assert len(arrays) == count
    stacked = np.stack([array for sample in arrays for array in sample.values()])
    assert stacked.dtype == np.float32
    assert low - 0.01 <= stacked.min() < low + 0.3
    assert high - 0.3 < stacked.max() <= high + 0.01
    model = load_torch(workload.model, workload.folder)
    assert isinstance(model, torch.nn.Module)
    with torch.no_grad():
        found = model(torch.from_numpy(stacked[:1]))
    assert [tuple(found.shape)] == outputs
    assert torch.isfinite(found).all()
    assert len(workload.model.outputs) == 1


def operators(model: torch.nn.Module, example: torch.Tensor, path: Path) -> dict[str, int]:
    """Operators of the simplified graph, and how many of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), str(path), opset_version=18, dynamo=False)
    graph, note = simplify(onnx.load(path))
    assert note is None
    kinds = [node.op_type for node in graph.graph.node]
    for node in graph.graph.node:
        if node.op_type == "Conv":
            given: dict[str, Any] = {a.name: list(a.ints) for a in node.attribute}
            assert len(given["pads"]) == 4
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def test_keyword_spotting_needs_no_padding_of_its_own(tmp_path: Path) -> None:
    found = operators(dscnn.build(), torch.zeros(1, 1, 49, 10), tmp_path / "kws.onnx")
    assert found == {"Conv": 9, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 9}
    graph = simplify(onnx.load(tmp_path / "kws.onnx"))[0].graph
    pads = next(a.ints for a in graph.node[0].attribute if a.name == "pads")
    assert list(pads) == [4, 1, 5, 1]


def test_yunet_ends_at_its_heads_where_it_is_raw(tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 128, 128)
    whole = operators(yunet.build(), image, tmp_path / "whole.onnx")
    raw = operators(yunet.build(raw=True), image, tmp_path / "raw.onnx")
    assert raw == {"Add": 2, "Conv": 59, "MaxPool": 4, "Relu": 18, "Resize": 2}
    assert whole == raw | {"Reshape": 12, "Sigmoid": 6, "Transpose": 12}


def test_keyword_spotting_without_data_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEDEPLOY_DATA", raising=False)
    workload = load_workload("mlperf-tiny-kws")
    with pytest.raises(InputError, match="not found") as caught:
        load_torch(workload.model, workload.folder)
    assert "EDGEDEPLOY_DATA" in caught.value.message + caught.value.hint + caught.value.log


@pytest.mark.usefixtures("data_folder")
def test_keyword_spotting_on_the_accuracy_set() -> None:
    workload = load_workload("mlperf-tiny-kws")
    model = load_torch(workload.model, workload.folder)
    assert isinstance(model, torch.nn.Module)
    assert workload.evaluation
    metric = make_metric(workload.evaluation.metric, workload.evaluation.output)
    dataset = open_dataset(workload.evaluation, workload.inputs, workload.folder)
    samples = iter(dataset)
    while some := list(itertools.islice(samples, 100)):
        maps = torch.from_numpy(np.stack([sample.arrays["mfcc"] for sample in some]))
        with torch.no_grad():
            scores = model(maps).numpy()
        metric.update({"scores": scores}, [sample.label for sample in some])
    assert metric.count == 1000
    # 90.2 % by the published int8 model
    assert metric.value() == pytest.approx(0.901, abs=0.002)


@pytest.mark.usefixtures("data_folder")
def test_the_face_detector_gets_bgr_faces_and_finds_them() -> None:
    workload = load_workload("yunet-128")
    model = load_torch(workload.model, workload.folder)
    assert isinstance(model, torch.nn.Module)
    assert workload.calibration
    spec = msgspec.structs.replace(workload.inputs[0], name="image")
    dataset = open_dataset(workload.calibration, (spec,), workload.folder)
    images = torch.from_numpy(np.stack([sample.arrays["image"] for sample in dataset]))
    assert images.shape == (23, 3, 128, 128)
    assert 200 < float(images.max()) <= 255
    with torch.no_grad():
        found = model(images)
    assert list(found) == list(yunet.OUTPUTS)
    best = torch.cat([found[f"cls_{s}"] * found[f"obj_{s}"] for s in yunet.STRIDES], 1).amax((1, 2))
    assert int((best > 0.5).sum()) >= 10
