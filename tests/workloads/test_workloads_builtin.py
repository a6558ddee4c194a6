"""The built-in workloads: each loads, and names what there is; accuracies where the data is."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgedeploy.calibrate import open_sample
from edgedeploy.callables import load_callable
from edgedeploy.data import open_dataset
from edgedeploy.metrics import make_metric
from edgedeploy.workload import InputSpec, built_in_workloads, find_data, load_workload

NAMES = [
    "cropnet",
    "digits",
    "mbv2-cifar10-int8",
    "mlperf-tiny-ic",
    "mlperf-tiny-kws",
    "mobilenetv2-035-96",
    "mobilenetv2",
    "pmridd2-128",
    "pmridd2-64",
    "rac-n0",
    "resnet20-cifar10",
    "yunet-128",
    "yunet",
]
needs_data = pytest.mark.skipif(
    not os.environ.get("EDGEDEPLOY_DATA"),
    reason="EDGEDEPLOY_DATA names no folder with the models and CIFAR-10",
)

Run = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def test_these_are_built_in() -> None:
    assert list(built_in_workloads()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_says_what_it_is(name: str) -> None:
    workload = load_workload(name)
    assert workload.name == name
    assert len(workload.description) > 20
    assert workload.calibration is not None
    if ":" in workload.model.source:
        load_callable(workload.model.source, workload.folder, "model")
    if workload.evaluation:
        assert workload.evaluation.split == "test"
        assert workload.calibration.split == "train"
        assert make_metric(workload.evaluation.metric).count == 0


def test_digits_needs_nothing_but_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEDEPLOY_DATA", raising=False)
    workload = load_workload("digits")
    assert workload.model.weights
    assert find_data(workload.model.weights, workload.folder).name == "digits.safetensors"
    inputs = (msgspec.structs.replace(workload.inputs[0], name="images"),)
    assert workload.calibration
    assert workload.evaluation
    calibration = open_sample(workload.calibration, inputs, workload.folder, 256)
    counts = np.bincount([sample.label for sample in calibration])
    assert (len(calibration), counts.min(), counts.max()) == (256, 24, 26)
    assert len(open_dataset(workload.evaluation, inputs, workload.folder)) == 355


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("mobilenetv2", (1, 3, 224, 224), 64), ("yunet", (1, 3, 640, 640), 16)],
)
def test_seeded_ones_need_no_data(name: str, shape: tuple[int, ...], count: int) -> None:
    workload = load_workload(name)
    assert workload.evaluation is None
    assert workload.calibration
    spec = msgspec.structs.replace(workload.inputs[0], name="x", shape=shape, dtype="float32")
    dataset = open_dataset(workload.calibration, (spec,), workload.folder)
    assert len(dataset) == count
    first = next(iter(dataset)).arrays["x"]
    low, high = spec.value_range
    assert low <= first.min() < low + (high - low) / 100
    assert high - (high - low) / 100 < first.max() <= high


def accuracy(
    name: str, inputs: tuple[InputSpec, ...], run: Run, batch: int = 1
) -> tuple[float, int]:
    workload = load_workload(name)
    assert workload.evaluation
    metric = make_metric(workload.evaluation.metric, workload.evaluation.output)
    samples = iter(open_dataset(workload.evaluation, inputs, workload.folder))
    while some := list(itertools.islice(samples, batch)):
        arrays = np.stack([array for sample in some for array in sample.arrays.values()])
        metric.update({"scores": run(arrays)}, [sample.label for sample in some])
    return metric.value(), metric.count


@needs_data
@pytest.mark.parametrize(
    ("name", "expected", "within"),
    [("mbv2-cifar10-int8", 0.8938, 0.002), ("mlperf-tiny-ic", 0.8800, 0.001)],
)
def test_given_onnx_models_on_cifar10(name: str, expected: float, within: float) -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    workload = load_workload(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = find_data(workload.model.source, workload.folder)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    resolved = msgspec.structs.replace(
        workload.inputs[0], name=node.name, shape=tuple(node.shape), dtype="float32"
    )
    found, count = accuracy(name, (resolved,), lambda x: session.run(None, {node.name: x})[0])
    assert found == pytest.approx(expected, abs=within)
    assert count == 1017


@needs_data
def test_resnet20_on_cifar10() -> None:
    import torch

    workload = load_workload("resnet20-cifar10")
    build = load_callable(workload.model.source, workload.folder, "model")
    model = build(**workload.model.arguments).eval()
    assert workload.model.weights
    assert workload.model.weights_key
    path = find_data(workload.model.weights, workload.folder)
    state = torch.load(path, map_location="cpu", weights_only=True)[workload.model.weights_key]
    prefix = workload.model.weights_prefix
    model.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()})

    @torch.no_grad()
    def run(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        scores: np.ndarray[Any, Any] = model(torch.from_numpy(x)).numpy()
        return scores

    inputs = (msgspec.structs.replace(workload.inputs[0], name="images"),)
    found, count = accuracy("resnet20-cifar10", inputs, run, batch=64)
    assert found == pytest.approx(0.9164, abs=0.001)
    assert count == 1017


@needs_data
def test_an_imagenet_subset_in_a_zip_is_labelled_by_the_class_list() -> None:
    from edgedeploy.workload import DataSpec

    spec = DataSpec(
        layout="imagenet", data="imagenet/imagenette160_val_trainorigin500.zip", count=30
    )
    x = InputSpec(
        name="x", shape=(1, 3, 224, 224), dtype="float32", layout="NCHW", short_side=256, fit="crop"
    )
    dataset = open_dataset(spec, (x,), str(Path.cwd()))
    assert sorted({s.label for s in dataset}) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
