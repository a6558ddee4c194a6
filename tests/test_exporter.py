"""PyTorch models exported in this process: which exporter, its checks, parity on real inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch
import torch_nets as nets
from exports import ROW, Export, outputs_of, reference
from onnx import numpy_helper

from edgedeploy.workload import InputSpec
from edgedeploy.zoo.mobilenet import build


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_a_module_becomes_checked_static_onnx(export: Export) -> None:
    torch.manual_seed(0)
    module = nets.Normalised()
    model = export(module, InputSpec(shape=(1, 3, 8, 8)))
    assert model.exporter == "torchscript"
    assert (model.opset, model.requested_opset) == (18, 18)
    assert [(t.name, t.dtype, t.shape, t.layout) for t in model.inputs] == [
        ("image", "float32", (1, 3, 8, 8), "NCHW")
    ]
    assert [(t.name, t.dtype, t.shape) for t in model.outputs] == [("output", "float32", (1, 5))]
    assert model.parameters == sum(p.numel() for p in module.parameters()) == 215
    assert model.macs == 8 * 8 * 6 * 27 + 30
    kinds = [n.op_type for n in onnx.load(model.path).graph.node]
    assert "BatchNormalization" not in kinds
    assert "Dropout" not in kinds
    kept = reference(model)
    assert {name: a.shape for name, a in kept.items()} == {
        "inputs/image": (4, 1, 3, 8, 8),
        "outputs/output": (4, 1, 5),
        "onnx/output": (4, 1, 5),
        "simplified/output": (4, 1, 5),
    }
    with torch.no_grad():
        truth = module(torch.from_numpy(kept["inputs/image"][2])).numpy()
    np.testing.assert_array_equal(kept["outputs/output"][2], truth)
    error = np.abs(kept["simplified/output"] - kept["outputs/output"]).max()
    assert model.max_abs_error == pytest.approx(float(error), abs=1e-9)
    assert error < 1e-5
    assert set(model.tools) == {"onnx", "onnxsim", "onnxruntime", "torch"}
    assert model.duration_s > 0


def test_published_counts_of_mobilenet(export: Export) -> None:
    """MobileNetV2 for ten classes: 2,236,682 parameters, 299.5 MMACs at 224x224."""
    model = export(build(classes=10), InputSpec(shape=(1, 3, 224, 224)), samples=1)
    assert model.parameters == 2_236_682
    assert model.macs == 299_507_072
    kinds = {n.op_type for n in onnx.load(model.path).graph.node}
    assert kinds <= {"Conv", "Clip", "Add", "GlobalAveragePool", "ReduceMean", "Flatten", "Gemm"}


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_the_opset_asked_for_is_the_one_got(export: Export, opset: int) -> None:
    model = export(nets.Linear(), opset=opset)
    assert (model.requested_opset, model.opset) == (opset, opset)
    assert model.exporter == "torchscript"
    assert model.notes == ()


def test_newer_opsets_go_to_the_other_exporter(export: Export) -> None:
    model = export(nets.Linear(), opset=21)
    assert model.exporter == "dynamo (opset 21 is newer than TorchScript's)"
    assert model.opset == 21


def test_an_opset_not_got_is_recorded(export: Export) -> None:
    model = export(nets.Normalised(), InputSpec(shape=(1, 3, 8, 8)), opset=13, exporter="dynamo")
    assert model.requested_opset == 13
    assert model.opset == 18
    assert "opset 13 asked for, 18 got from the exporter" in model.notes


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_exporter_asked_for_is_used(export: Export, exporter: str) -> None:
    model = export(nets.Linear(), exporter=exporter)
    assert model.exporter == f"{exporter} (as asked)"
    x = graphs.draw(1, 4)
    dynamo = "pkg.torch.export.ExportedProgram.graph_signature"
    keys = {p.key for n in onnx.load(model.raw_path).graph.node for p in n.metadata_props}
    assert bool(keys) == (exporter == "dynamo"), dynamo
    assert outputs_of(model, x=x)[0].shape == (1, 3)


def test_control_flow_on_values_falls_back(export: Export) -> None:
    """Both sides of torch.cond must be in the file, whichever the example took."""
    model = export(nets.Conditional())
    assert model.exporter == "dynamo (fallback)"
    assert model.notes[0].startswith("torchscript: ")
    up, down = np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(outputs_of(model, x=up)[0], up * 2)
    np.testing.assert_array_equal(outputs_of(model, x=down)[0], down - 1)


def test_a_value_taken_out_of_the_graph_falls_back(export: Export) -> None:
    model = export(nets.Largest())
    assert model.exporter == "dynamo (fallback)"
    assert model.notes[0].startswith("torchscript: tracing is not safe for this model: Converting")
    x = np.array([[1, -8, 0, 2]], np.float32)
    np.testing.assert_array_equal(outputs_of(model, x=x)[0], x * 8)


def test_a_branch_on_values_is_never_baked_in(export: Export) -> None:
    """The trace would agree with PyTorch on every positive sample, and be wrong."""
    positive = {"x": np.abs(graphs.draw(4, 1, 4)) + 0.1}
    error = export.refused(nets.Branch(), arrays=positive)
    assert error.message.startswith(
        "no exporter gives a sound model: torchscript: tracing is not safe for this model:"
        " Converting a tensor to a Python boolean"
    )
    assert "; dynamo: GuardOnDataDependentSymNode: Could not guard on" in error.message
    assert "\x1b" not in error.message
    assert error.hint.startswith("Look for Python branches on values")
    only = export.refused(nets.Branch(), arrays=positive, exporter="torchscript")
    assert "tracing is not safe" in only.message


def test_parity_broken_is_refused_with_the_error(export: Export) -> None:
    message = export.refused(nets.Random(), exporter="torchscript").message
    assert "torchscript: output 'output' differs by 0." in message
    assert "after export" in message


def test_parity_broken_by_the_exporter(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that writes other weights than it was given is caught on real inputs."""
    write = torch.onnx.export

    def corrupt(module: Any, example: Any, path: str, **options: Any) -> None:
        write(module, example, path, **options)
        made = onnx.load(path)
        weight = numpy_helper.to_array(made.graph.initializer[0]) * np.float32(1.01)
        made.graph.initializer[0].CopyFrom(
            numpy_helper.from_array(weight, made.graph.initializer[0].name)
        )
        onnx.save(made, path)

    monkeypatch.setattr(torch.onnx, "export", corrupt)
    message = export.refused(nets.Linear(), exporter="torchscript").message
    assert "output 'output' differs by 0.00" in message


def test_a_constant_output_is_refused(export: Export) -> None:
    message = export.refused(nets.Baked()).message
    assert "torchscript: the model has no input: it is a constant" in message
    assert "dynamo: output 'output' depends on no input" in message
    message = export.refused(nets.Parameter()).message
    assert "output 'output_1' depends on no input: the export baked in a constant" in message


def test_an_input_that_changes_nothing_is_told(export: Export) -> None:
    wide = InputSpec(shape=(1, 3))
    model = export(nets.Unused(), ROW, wide)
    assert [t.name for t in model.inputs] == ["x", "y"]
    assert "input 'y' changes no output" in model.notes
    message = export.refused(nets.Unused(), ROW, wide, exporter="torchscript").message
    assert "the exporter dropped input 'y', on which nothing depends" in message


def test_nan_weights_are_refused(export: Export) -> None:
    module = nets.Linear()
    with torch.no_grad():
        module.head.weight[1, 2] = float("nan")
    error = export.refused(module)
    assert error.message == "the model's output on these inputs holds NaN ('output')"
    assert "weights" in error.hint


def test_nan_inputs_are_refused(export: Export) -> None:
    arrays = {"x": np.full((2, 1, 4), np.nan, np.float32)}
    assert export.refused(nets.Linear(), arrays=arrays).message == "the input data holds NaN ('x')"


def test_infinite_outputs_are_compared_as_they_are(export: Export) -> None:
    model = export(nets.Masked())
    assert np.isinf(reference(model)["outputs/output"]).any()
    assert model.max_abs_error == 0


def test_a_shape_that_depends_on_values(export: Export) -> None:
    message = export.refused(nets.Found()).message
    assert message.startswith("the shape of output 'output' depends on values: (")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nets.Raises(), "the model raised RuntimeError on inputs x (1, 4): the bridge is out"),
        (nets.Empty(), "the model returns no tensor"),
        (
            nets.Brain(),
            "the model raised TypeError on inputs x (1, 4): Got unsupported ScalarType BFloat16",
        ),
    ],
)
def test_modules_that_give_no_arrays(export: Export, module: Any, message: str) -> None:
    assert export.refused(module).message == message


def test_a_shape_the_module_does_not_take(export: Export) -> None:
    error = export.refused(nets.Linear(), InputSpec(shape=(1, 5)))
    assert error.message.startswith("the model raised RuntimeError on inputs x (1, 5): mat1 and")
    assert error.hint == "Check shape, dtype and layout of the inputs."
