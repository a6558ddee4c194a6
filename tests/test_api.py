"""Modules in memory, deployed from a notebook: data in all forms, errors, and nothing changed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs as graphs
import pytest
import torch
import torch_nets as nets

import edgedeploy
from edgedeploy.api import _named, _samples
from edgedeploy.errors import DataError, EdgeDeployError, InputError
from edgedeploy.records import Plan, Report
from edgedeploy.workload import load_workload

QUICK = Plan(
    idle_s=0.0,
    warm_up_min_s=0.01,
    latency_min_s=0.02,
    latency_min_count=20,
    throughput_s=0.02,
    cool_down_s=0.0,
    layer_runs=1,
)
IMAGES = torch.from_numpy(graphs.draw(48, 3, 8, 8))
LABELS = torch.arange(48) % 5


def batches(size: int = 16) -> Iterator[list[torch.Tensor]]:
    """What a torch DataLoader of (image, label) yields."""
    for i in range(0, len(IMAGES), size):
        yield [IMAGES[i : i + size], LABELS[i : i + size]]


def deploy(module: Any, **options: Any) -> Report:
    return edgedeploy.deploy(module, **{"precision": "fp32", "plan": QUICK, **options})


def runs(folder: Path) -> list[Path]:
    root = folder / "runs"
    return sorted(root.iterdir()) if root.exists() else []


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, dict[str, Any]]:
    """A classifier deployed in fp32 and int8, judged by a function that keeps what it saw."""
    seen: dict[str, Any] = {"outputs": []}
    torch.manual_seed(0)
    module = nets.Normalised()
    module.train()
    module.norm.eval()
    seen["module"] = module
    seen["before"] = {name: value.clone() for name, value in module.state_dict().items()}

    def evaluate(predict: Callable[..., Any]) -> float:
        outputs = predict(IMAGES[:5])
        seen["outputs"].append(outputs)
        return float((outputs.argmax(1) == LABELS[:5].numpy()).mean())

    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEDEPLOY_RUNS", str(folder / "runs"))
        patch.setenv("EDGEDEPLOY_CACHE", str(folder / "cache"))
        report = deploy(
            module, target="host", precision=" fp32, int8 ", calibration=batches(),
            evaluate=evaluate, metric="accuracy", name="net",
        )  # fmt: skip
    return report, seen


def test_a_module_becomes_a_report(judged: tuple[Report, dict[str, Any]]) -> None:
    report, _ = judged
    assert [(r.target, r.precision, r.status, r.workload) for r in report.rows] == [
        ("host", "fp32", "ok", "net"),
        ("host", "int8", "ok", "net"),
    ]
    assert report.model is not None
    (image,) = report.model.inputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 3, 8, 8), "float32")
    assert report.model.parameters == 215
    for row in report.rows:
        assert row.ladder is not None
        assert row.ladder.first_broken is None
        assert row.ladder.samples == 16
        assert (row.figures["latency_p50_s"].value or 0) > 0
        assert row.artifact is not None
    assert report.rows[1].artifact is not None
    assert report.rows[1].artifact.calibration_fingerprint


def test_evaluate_judges_what_was_deployed(judged: tuple[Report, dict[str, Any]]) -> None:
    report, seen = judged
    with torch.no_grad():
        truth = seen["module"].eval()(IMAGES[:5]).numpy()
    float32, int8 = seen["outputs"]
    assert float32.shape == (5, 5)
    np.testing.assert_allclose(float32, truth, rtol=1e-4, atol=1e-5)
    assert 1e-4 < np.abs(int8 - truth).max() < 0.2
    for row, outputs in zip(report.rows, seen["outputs"], strict=True):
        assert row.measurement is not None
        accuracy = row.measurement.accuracy
        assert accuracy is not None
        assert accuracy.value == float((outputs.argmax(1) == LABELS[:5].numpy()).mean())
        assert (accuracy.metric, accuracy.unit, accuracy.count) == ("accuracy", "1", 5)
        assert (accuracy.source, accuracy.data) == ("measured", "evaluate() of the caller")


def test_the_module_is_left_as_it_was(judged: tuple[Report, dict[str, Any]]) -> None:
    """Also its normalisation's statistics, and a part frozen in evaluation mode."""
    module = nets.Normalised()
    module.train()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    deploy(module, calibration=batches())
    assert module.training
    assert module.drop.training
    assert not module.norm.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in judged[1]["module"].state_dict().items():
        assert torch.equal(value, judged[1]["before"][name]), name


def test_the_report_shows_itself_in_a_notebook(judged: tuple[Report, dict[str, Any]]) -> None:
    text = judged[0]._repr_html_()
    assert "<table" in text
    assert text.count("<tr") >= 3
    assert "host" in text
    assert "int8" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_a_failed_export_leaves_the_mode_and_no_run(own_folders: Path) -> None:
    module = nets.Random()
    module.train()
    with pytest.raises(InputError, match="no exporter gives a sound model"):
        deploy(module, calibration=[IMAGES])
    assert module.training
    assert runs(own_folders) == []


@pytest.mark.parametrize(
    "calibration",
    [
        [(graphs.draw(6, 4, seed=1), graphs.draw(6, 4, seed=2))],
        [((graphs.draw(6, 4, seed=1), graphs.draw(6, 4, seed=2)), np.zeros(6))],
        [{"right": graphs.draw(6, 4, seed=2), "left": graphs.draw(6, 4, seed=1)}],
        {"left": graphs.draw(6, 4, seed=1), "right": graphs.draw(6, 4, seed=2)},
    ],
    ids=["tuple", "tuple and labels", "dict out of order", "one dict"],
)
def test_two_inputs_are_not_taken_for_each_other(calibration: Any) -> None:
    torch.manual_seed(1)
    module = nets.Two()
    left, right = graphs.draw(3, 4, seed=7), graphs.draw(3, 4, seed=8)
    seen = []

    def evaluate(predict: Callable[..., Any]) -> float:
        seen.append(predict(left, right))
        return 0.5

    report = deploy(module, calibration=calibration, evaluate=evaluate)
    assert report.model is not None
    assert [t.name for t in report.model.inputs] == ["left", "right"]
    with torch.no_grad():
        truth = module.eval()(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    np.testing.assert_allclose(seen[0], truth, rtol=1e-4, atol=1e-5)


def test_labels_are_not_taken_for_an_optional_input() -> None:
    pairs = [(graphs.draw(8, 4), np.zeros((8, 4), np.float32))]
    report = deploy(nets.Optional(), calibration=pairs)
    assert report.model is not None
    assert [t.name for t in report.model.inputs] == ["x"]
    given = {"mask": graphs.draw(8, 4, seed=3), "x": graphs.draw(8, 4)}
    report = deploy(nets.Optional(), calibration=[given])
    assert report.model is not None
    assert [t.name for t in report.model.inputs] == ["x", "mask"]


def test_a_module_on_another_device_is_copied() -> None:
    class Elsewhere(nets.Linear):
        def cpu(self) -> Any:
            return nets.Linear()

    module = Elsewhere().to("meta").train()
    report = deploy(module, calibration=[graphs.draw(8, 4)])
    assert report.rows[0].status == "ok"
    assert module.training
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_several_outputs_come_as_a_tuple() -> None:
    seen = []

    def evaluate(predict: Callable[..., Any]) -> float:
        seen.append(predict(graphs.draw(3, 4)))
        return 1

    deploy(nets.Named(), calibration=[graphs.draw(8, 4)], evaluate=evaluate)
    zeta, alpha = seen[0]
    assert (zeta.shape, alpha.shape) == ((3, 3), (3, 2))


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (
            lambda predict: predict(IMAGES, IMAGES),
            "predict got 2 arrays; the model has 1 inputs",
        ),
        (lambda predict: predict(), "predict got 0 arrays; the model has 1 inputs"),
        (
            lambda predict: predict("image"),
            "expected a tensor or array of samples, found str",
        ),
        (lambda predict: 1 / 0, "evaluate raised ZeroDivisionError: division by zero"),
        (lambda predict: "good", "evaluate raised ValueError: could not convert string to float"),
        (lambda predict: predict(IMAGES[:, :2]), "input 'image' is float32 (1, 2, 8, 8)"),
    ],
)
def test_an_evaluation_that_goes_wrong_is_a_failed_row(
    judged: tuple[Report, dict[str, Any]], evaluate: Any, message: str
) -> None:
    row = deploy(judged[1]["module"], calibration=batches(), evaluate=evaluate).rows[0]
    assert row.status == "failed"
    assert row.failure is not None
    assert message in row.failure.message
    assert row.failure.kind == "input"


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, InputError, "a module in memory needs calibration data"),
        ({"calibration": []}, DataError, "the calibration data is empty: it yielded no sample"),
        ({"calibration": iter(())}, DataError, "the calibration data is empty"),
        ({"calibration": [IMAGES[:0]]}, DataError, "the calibration data is empty"),
        ({"calibration": 7}, InputError, "calibration is a int, expected batches or an iterable"),
        ({"calibration": ["a.png"]}, DataError, "expected a tensor or array of samples, found str"),
        (
            {"calibration": [IMAGES, IMAGES[:, :, :4]]},
            DataError,
            "calibration yielded samples of unlike shapes: [(3, 4, 8), (3, 8, 8)]",
        ),
        (
            {"calibration": [IMAGES[:, :2]]},
            InputError,
            "the model raised RuntimeError on inputs image (1, 2, 8, 8)",
        ),
        ({"calibration": [IMAGES], "target": "hots"}, InputError, "target 'hots' is not known"),
        ({"calibration": [IMAGES], "target": []}, InputError, "no target is named"),
    ],
)
def test_arguments_that_are_wrong(
    own_folders: Path, arguments: dict[str, Any], kind: type[EdgeDeployError], message: str
) -> None:
    with pytest.raises(EdgeDeployError) as caught:
        deploy(nets.Normalised(), **arguments)
    assert isinstance(caught.value, kind)
    assert message in caught.value.message
    assert caught.value.hint
    assert runs(own_folders) == [], "no empty run is left behind"


def test_what_is_no_module(own_folders: Path) -> None:
    with pytest.raises(InputError) as caught:
        deploy([1, 2], calibration=[IMAGES])
    assert caught.value.message == (
        "the model is a list, expected a torch.nn.Module, a Workload or a path"
    )
    assert runs(own_folders) == []


def test_calibration_beside_a_workload_is_refused(own_folders: Path) -> None:
    for model in ("digits", load_workload("digits")):
        with pytest.raises(InputError, match="calibration= is for a module in memory"):
            deploy(model, calibration=[IMAGES])
    assert runs(own_folders) == []


def test_a_model_file_by_path(tmp_path: Path, own_folders: Path) -> None:
    path = graphs.saved(graphs.classifier(), tmp_path / "net.onnx")
    report = deploy(path)
    assert [(r.workload, r.status) for r in report.rows] == [("net", "ok")]
    assert report.folder is not None
    assert runs(own_folders) == [Path(report.folder)]
    assert edgedeploy.load_report().rows == report.rows
    assert edgedeploy.load_report(report.runs[0]).rows == report.rows


# --- batches


@pytest.mark.parametrize(
    ("batch", "names", "expected"),
    [
        (IMAGES, ["image"], {"image": 48}),
        (IMAGES.numpy(), [], {"input": 48}),
        ([IMAGES, LABELS], ["image"], {"image": 48}),
        ((IMAGES, LABELS), [], {"input": 48}),
        ((IMAGES, IMAGES[:7]), ["a", "b"], {"a": 48, "b": 7}),
        ((IMAGES, IMAGES[:7], LABELS), ["a", "b"], {"a": 48, "b": 7}),
        (((IMAGES, IMAGES[:7]), LABELS), ["a", "b"], {"a": 48, "b": 7}),
        (({"b": IMAGES, "a": IMAGES[:7]}, LABELS), ["a", "b"], {"b": 48, "a": 7}),
        ({"image": IMAGES, "label": LABELS}, ["image"], {"image": 48}),
        ({"x": IMAGES, "y": IMAGES[:7]}, ["x", "y"], {"x": 48, "y": 7}),
    ],
)
def test_batches_of_every_form(batch: Any, names: list[str], expected: dict[str, int]) -> None:
    found = _named(batch, names)
    assert {name: len(value) for name, value in found.items()} == expected
    assert all(isinstance(value, np.ndarray) for value in found.values())


def test_only_so_many_samples_are_taken() -> None:
    taken = []

    def endless() -> Iterator[torch.Tensor]:
        while True:
            taken.append(1)
            yield IMAGES[:16]

    found = _samples(endless(), ["image"], 40)
    assert found["image"].shape == (40, 1, 3, 8, 8)
    assert len(taken) == 3
    assert _samples(IMAGES, ["image"], 64)["image"].shape == (48, 1, 3, 8, 8)


def test_tensors_with_a_graph_and_of_other_kinds() -> None:
    assert _named(IMAGES.clone().requires_grad_(), ["image"])["image"].shape == (48, 3, 8, 8)
    with pytest.raises(DataError):
        _named(np.array(["a", "b"]), ["image"])
    with pytest.raises(DataError):
        _named(np.float32(3), ["image"])


@pytest.mark.parametrize(
    "given",
    [
        [{"a": IMAGES, "b": IMAGES[:7]}],
        [{"a": IMAGES, "b": IMAGES}, {"a": IMAGES}],
    ],
)
def test_inputs_that_do_not_go_together(given: Any) -> None:
    with pytest.raises(DataError, match="calibration yielded inputs that do not go together"):
        _samples(given, ["a", "b"], 96)
