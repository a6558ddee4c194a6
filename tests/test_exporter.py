"""PyTorch and ONNX models exported in this process: exporters, names, shapes, checks, parity."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch
import torch_nets as nets
from onnx import numpy_helper

from edgedeploy.errors import DataError, EdgeDeployError, ExportError, InputError
from edgedeploy.exporter import export_model, export_module
from edgedeploy.graph import read
from edgedeploy.records import Model
from edgedeploy.workload import DataSpec, InputSpec, ModelSpec, Workload

ROW = InputSpec(shape=(1, 4), value_range=(-1.0, 1.0))
Export = Callable[..., Model]


def reference(model: Model) -> dict[str, np.ndarray]:
    with np.load(model.reference) as arrays:
        return dict(arrays)


def outputs_of(model: Model, **inputs: np.ndarray) -> list[np.ndarray]:
    return graphs.run(Path(model.path), **inputs)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Export a module with these inputs, 4 samples, at an opset."""

    def exported(
        module: Any,
        *inputs: InputSpec,
        opset: int = 18,
        arrays: dict[str, np.ndarray] | None = None,
        samples: int = 4,
        **model: Any,
    ) -> Model:
        workload = Workload(
            name="net",
            model=ModelSpec(source="in memory", **model),
            inputs=inputs or ((ROW,) if arrays is None else ()),
            verify_samples=samples,
        )
        if isinstance(module, torch.nn.Module):
            module.eval()
        return export_module(module, workload, opset, tmp_path, arrays)

    return exported


def refused(export: Export, module: Any, *inputs: InputSpec, **options: Any) -> EdgeDeployError:
    with pytest.raises(InputError) as caught:
        export(module, *inputs, **options)
    return caught.value


# --- from PyTorch


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
    error = refused(export, nets.Branch(), arrays=positive)
    assert error.message.startswith(
        "no exporter gives a sound model: torchscript: tracing is not safe for this model:"
        " Converting a tensor to a Python boolean"
    )
    assert "; dynamo: GuardOnDataDependentSymNode: Could not guard on" in error.message
    assert "\x1b" not in error.message
    assert error.hint.startswith("Look for Python branches on values")
    only = refused(export, nets.Branch(), arrays=positive, exporter="torchscript")
    assert "tracing is not safe" in only.message


def test_parity_broken_is_refused_with_the_error(export: Export) -> None:
    message = refused(export, nets.Random(), exporter="torchscript").message
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
    message = refused(export, nets.Linear(), exporter="torchscript").message
    assert "output 'output' differs by 0.00" in message


def test_a_constant_output_is_refused(export: Export) -> None:
    message = refused(export, nets.Baked()).message
    assert "torchscript: the model has no input: it is a constant" in message
    assert "dynamo: output 'output' depends on no input" in message
    message = refused(export, nets.Parameter()).message
    assert "output 'output_1' depends on no input: the export baked in a constant" in message


def test_an_input_that_changes_nothing_is_told(export: Export) -> None:
    wide = InputSpec(shape=(1, 3))
    model = export(nets.Unused(), ROW, wide)
    assert [t.name for t in model.inputs] == ["x", "y"]
    assert "input 'y' changes no output" in model.notes
    message = refused(export, nets.Unused(), ROW, wide, exporter="torchscript").message
    assert "the exporter dropped input 'y', on which nothing depends" in message


def test_nan_weights_are_refused(export: Export) -> None:
    module = nets.Linear()
    with torch.no_grad():
        module.head.weight[1, 2] = float("nan")
    error = refused(export, module)
    assert error.message == "the model's output on these inputs holds NaN ('output')"
    assert "weights" in error.hint


def test_nan_inputs_are_refused(export: Export) -> None:
    arrays = {"x": np.full((2, 1, 4), np.nan, np.float32)}
    assert refused(export, nets.Linear(), arrays=arrays).message == "the input data holds NaN ('x')"


def test_infinite_outputs_are_compared_as_they_are(export: Export) -> None:
    model = export(nets.Masked())
    assert np.isinf(reference(model)["outputs/output"]).any()
    assert model.max_abs_error == 0


def test_a_shape_that_depends_on_values(export: Export) -> None:
    message = refused(export, nets.Found()).message
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
    assert refused(export, module).message == message


def test_a_shape_the_module_does_not_take(export: Export) -> None:
    error = refused(export, nets.Linear(), InputSpec(shape=(1, 5)))
    assert error.message.startswith("the model raised RuntimeError on inputs x (1, 5): mat1 and")
    assert error.hint == "Check shape, dtype and layout of the inputs."


def test_two_inputs_in_order_or_by_name(export: Export) -> None:
    module = nets.Two()
    left, right = graphs.draw(1, 4, seed=1), graphs.draw(1, 4, seed=2)
    with torch.no_grad():
        truth = module(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    named = [msgspec.structs.replace(ROW, name=name) for name in ("right", "left")]
    for inputs in ((ROW, ROW), tuple(named), (named[0], ROW)):
        model = export(module, *inputs)
        assert [t.name for t in model.inputs] == ["left", "right"]
        found = outputs_of(model, left=left, right=right)[0]
        np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_names_of_ones_own_are_in_forwards_order(export: Export) -> None:
    inputs = [msgspec.structs.replace(ROW, name=name) for name in ("b", "a")]
    model = export(nets.Two(), *inputs)
    assert [t.name for t in model.inputs] == ["b", "a"]
    kept = reference(model)
    with torch.no_grad():
        truth = (
            nets.Two()
            .eval()(torch.from_numpy(kept["inputs/b"][0]), torch.from_numpy(kept["inputs/a"][0]))
            .numpy()
        )
    assert kept["outputs/output"][0].shape == truth.shape


def test_an_optional_input_before_the_last_is_missed(export: Export) -> None:
    x, scale = (msgspec.structs.replace(ROW, name=name) for name in ("x", "scale"))
    error = refused(export, nets.Optional(), x, scale)
    assert error.message == "the inputs are x, scale; forward takes 'mask' before the last"
    assert [t.name for t in export(nets.Optional(), x).inputs] == ["x"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((InputSpec(),), "input 'x' has no shape"),
        ((ROW, ROW), "the model raised TypeError on inputs input_0 (1, 4), input_1 (1, 4): "),
        (
            (msgspec.structs.replace(ROW, dtype="float31"),),
            "input 'x': there is no dtype 'float31'",
        ),
        (
            tuple(msgspec.structs.replace(ROW, name="x") for _ in range(2)),
            "the workload declares inputs x, x; the model's are x, x",
        ),
    ],
)
def test_inputs_that_do_not_fit(
    export: Export, inputs: tuple[InputSpec, ...], message: str
) -> None:
    error = refused(export, nets.Linear(), *inputs)
    assert error.message.startswith(message)
    assert error.hint


def test_a_module_does_not_tell_its_inputs(export: Export) -> None:
    error = refused(export, nets.Linear(), arrays={})
    assert error.message == ("workload 'net' declares no inputs, and a PyTorch model does not tell")
    assert "--shape" in error.hint


def test_integer_inputs(export: Export) -> None:
    model = export(nets.Tokens(), InputSpec(shape=(1, 5), dtype="int64", value_range=(0, 9)))
    assert (model.inputs[0].dtype, model.inputs[0].shape) == ("int64", (1, 5))
    tokens = np.array([[1, 2, 3, 9, 0]])
    assert outputs_of(model, tokens=tokens)[0].shape == (1, 2)
    assert set(np.unique(reference(model)["inputs/tokens"])) <= set(range(10))


def test_a_batch_of_several_samples(export: Export) -> None:
    model = export(nets.Linear(), InputSpec(shape=(3, 4)))
    assert model.inputs[0].shape == (3, 4)
    assert reference(model)["outputs/output"].shape == (4, 3, 3)


def test_outputs_of_a_dict_keep_their_names(export: Export) -> None:
    module = nets.Named()
    model = export(module)
    assert [(t.name, t.shape) for t in model.outputs] == [("zeta", (1, 3)), ("alpha", (1, 2))]
    x = graphs.draw(1, 4)
    with torch.no_grad():
        truth = module(torch.from_numpy(x))
    for found, name in zip(outputs_of(model, x=x), ("zeta", "alpha"), strict=True):
        np.testing.assert_allclose(found, truth[name].numpy(), rtol=1e-5, atol=1e-6)


def test_outputs_of_nested_tuples_are_numbered(export: Export) -> None:
    model = export(nets.Nested())
    assert [t.name for t in model.outputs] == ["output_0", "output_1", "output_2"]
    x = np.ones((1, 4), np.float32)
    assert [found[0, 0] for found in outputs_of(model, x=x)] == [2, 2, 0]


def test_outputs_named_by_the_workload(export: Export) -> None:
    model = export(nets.Named(), outputs=("first", "second"))
    assert [t.name for t in model.outputs] == ["first", "second"]
    error = refused(export, nets.Named(), outputs=("only",))
    assert error.message == "the model returns 2 tensors; outputs names 1"


def test_large_weights_from_pytorch(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PROTOBUF_LIMIT_BYTES", 100_000)
    module = torch.nn.Linear(200, 200)
    inputs = InputSpec(name="input", shape=(1, 200))
    model = export(module, inputs)
    assert model.exporter == "dynamo (weights too large for one file)"
    assert "not simplified: its weights are too large for one file" in model.notes
    assert Path(model.path).stat().st_size < 20_000
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) > 160_000
    x = graphs.draw(1, 200)
    with torch.no_grad():
        truth = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(outputs_of(model, input=x)[0], truth, rtol=1e-4, atol=1e-5)
    first = model.sha256
    with torch.no_grad():
        module.weight *= 2
    assert export(module, inputs).sha256 != first


def test_an_exported_program_tells_its_inputs(export: Export) -> None:
    sizes = {"left": None, "right": None}
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        nets.Two().eval(),
        (torch.ones(2, 4), torch.ones(2, 4)),
        dynamic_shapes={name: {0: batch} for name in sizes},
    )
    model = export(program, arrays={"left": graphs.draw(2, 1, 4), "right": graphs.draw(2, 1, 4)})
    assert model.exporter == "dynamo (the source is an exported program)"
    assert [(t.name, t.shape) for t in model.inputs] == [("left", (1, 4)), ("right", (1, 4))]
    assert model.parameters == 30
    larger = export(program, InputSpec(shape=(3, 4)), InputSpec(shape=(3, 4)))
    assert [t.shape for t in larger.inputs] == [(3, 4), (3, 4)]


def test_a_size_of_a_program_that_may_vary_must_be_given(export: Export) -> None:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    example = (torch.zeros(2, 5, dtype=torch.int64),)
    program = torch.export.export(nets.Tokens().eval(), example, dynamic_shapes=(axes,))
    scaled = InputSpec(value_range=(0, 9))
    error = refused(export, program, scaled)
    assert error.message.startswith("input 'tokens' has a symbolic dimension: (s")
    assert error.hint == "Give it: --shape tokens=N,N"
    model = export(program, InputSpec(shape=(1, 7), value_range=(0, 9)))
    assert (model.inputs[0].dtype, model.inputs[0].shape) == ("int64", (1, 7))


def test_scripted_control_flow_is_kept(export: Export) -> None:
    model = export(torch.jit.script(nets.Branch()))
    assert model.exporter == "torchscript (the source is TorchScript)"
    assert model.inputs[0].name == "x"
    down = -np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(outputs_of(model, x=down)[0], down - 1)


# --- from ONNX


@pytest.fixture
def from_onnx(tmp_path: Path) -> Callable[..., Model]:
    """Export an ONNX model as a workload does."""

    def exported(made: onnx.ModelProto | Path, *inputs: InputSpec, opset: int = 18) -> Model:
        path = made if isinstance(made, Path) else graphs.saved(made, tmp_path / "given.onnx")
        spec = Workload(
            name="net",
            model=ModelSpec(source=path.name),
            inputs=inputs,
            verify_samples=3,
            folder=str(path.parent),
        )
        folder = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        answer = export_model(msgspec.to_builtins(spec), opset, str(folder))
        assert str(path) in answer["seen"]["files"]
        return msgspec.convert(answer["model"], Model)

    return exported


def test_onnx_is_taken_raised_and_simplified(from_onnx: Export) -> None:
    given = graphs.classifier(opset=13)
    model = from_onnx(given)
    assert model.exporter == "as given"
    assert (model.requested_opset, model.opset) == (18, 18)
    assert model.notes == ("opset raised from 13 to 18",)
    assert model.reference_source == "onnx"
    assert model.parameters == 203
    assert set(model.tools) == {"onnx", "onnxsim", "onnxruntime"}
    kept = reference(model)
    np.testing.assert_array_equal(kept["outputs/y"][1], graphs.run(given, x=kept["inputs/x"][1])[0])
    assert {name.split("/")[0] for name in kept} == {"inputs", "outputs", "simplified"}


def test_raising_that_breaks_the_outputs_is_taken_back(
    from_onnx: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(made: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(made)
        other.opset_import[0].version = opset
        other.graph.node[1].op_type = "Abs"
        return other

    monkeypatch.setattr("onnx.version_converter.convert_version", wrong)
    model = from_onnx(graphs.classifier(opset=13))
    assert (model.requested_opset, model.opset) == (18, 13)
    assert model.notes[-1].startswith("opset 13 kept: at 18, output 'y' differs by ")


def test_a_symbolic_batch_and_shapes(from_onnx: Export) -> None:
    model = from_onnx(graphs.classifier("batch"))
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert model.outputs[0].shape == (1, 5)
    assert "symbolic batch 'batch' of x fixed to 1" in model.notes
    model = from_onnx(graphs.classifier("batch"), InputSpec(shape=(4, 3, 8, 8)))
    assert (model.inputs[0].shape, model.outputs[0].shape) == ((4, 3, 8, 8), (4, 5))
    assert reference(model)["outputs/y"].shape == (3, 4, 5)


def test_several_inputs_by_name_and_in_order(from_onnx: Export) -> None:
    made = graphs.model(
        [graphs.node("Sub", ["a", "b"], ["y"]), graphs.node("Add", ["a", "b"], ["z"])],
        {"a": ("n", 2), "b": ("n", 2)},
        {"y": ("n", 2), "z": ("n", 2)},
    )
    first = InputSpec(value_range=(5.0, 6.0))
    model = from_onnx(made, InputSpec(name="b", value_range=(1.0, 2.0)), first)
    kept = reference(model)
    assert kept["inputs/a"].min() >= 5
    assert kept["inputs/b"].max() <= 2
    assert [t.name for t in model.outputs] == ["y", "z"]
    sized = from_onnx(made, InputSpec(name="b"), InputSpec(shape=(2, 2)))
    assert [t.shape for t in sized.inputs] == [(2, 2), (2, 2)]


def test_an_output_whose_shape_is_not_inferred_is_as_it_runs(from_onnx: Export) -> None:
    """Contrib operators have no shape inference: without a shape a vendor's parser is lost."""
    gelu = graphs.node("Gelu", ["x"], ["y"], domain="com.microsoft")
    model = from_onnx(graphs.model([gelu], {"x": (1, 4)}, {"y": (None, None)}))
    assert model.outputs[0].shape == (1, 4)


def test_an_output_that_is_as_long_as_values_say(from_onnx: Export) -> None:
    found = graphs.node("NonZero", ["f"], ["y"])
    floor = graphs.node("Floor", ["x"], ["f"])
    made = graphs.model([floor, found], {"x": (1, 9)}, {"y": (2, None)})
    made.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ExportError, match="the shape of output 'y' depends on values"):
        from_onnx(made, InputSpec(value_range=(-1.0, 2.0)))


def test_a_quantized_model_stays_as_it_is(from_onnx: Export) -> None:
    weights = {"s": np.array(0.01, np.float32), "z": np.array(128, np.uint8)}
    nodes = [
        graphs.node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        graphs.node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = from_onnx(graphs.model(nodes, {"x": (1, 4)}, {"y": (1, 4)}, weights, opset=13))
    assert model.quantized
    assert model.opset == 13
    assert "not simplified: the model is already quantized" in model.notes
    assert model.max_abs_error == 0


def test_inputs_nobody_can_draw_values_for(from_onnx: Export) -> None:
    made = graphs.model([graphs.node("Identity", ["x"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)})
    for value in (made.graph.input[0], made.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(DataError, match="no values can be drawn for dtype object"):
        from_onnx(made)


def test_external_data_over_the_limit_end_to_end(
    from_onnx: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PROTOBUF_LIMIT_BYTES", 100_000)
    weight = graphs.draw(200, 200)
    made = graphs.model(
        [graphs.node("MatMul", ["x", "w"], ["y"])], {"x": ("n", 200)}, {"y": ("n", 200)},
        {"w": weight}, opset=17,
    )  # fmt: skip
    path = tmp_path / "large" / "m.onnx"
    path.parent.mkdir()
    onnx.save(made, str(path), save_as_external_data=True, location="w.bin")
    model = from_onnx(path)
    assert model.parameters == 40_000
    assert model.macs == 40_000
    assert (model.requested_opset, model.opset) == (18, 17)
    x = graphs.draw(1, 200)
    path.with_name("w.bin").unlink()
    np.testing.assert_allclose(outputs_of(model, x=x)[0], x @ weight, rtol=1e-4, atol=1e-5)


def test_an_opset_nobody_knows_is_refused(from_onnx: Export) -> None:
    with pytest.raises(InputError, match="opset 99 is asked for; opsets up to "):
        from_onnx(graphs.relu(), opset=99)


def test_the_data_is_the_calibrations(from_onnx: Export, tmp_path: Path) -> None:
    rows = graphs.draw(9, 3, 8, 8)
    np.savez(tmp_path / "rows.npz", x=rows)
    path = graphs.saved(graphs.relu(), tmp_path / "m.onnx")
    spec = Workload(
        name="net",
        model=ModelSpec(source=path.name),
        calibration=DataSpec(layout="npz", data="rows.npz"),
        verify_samples=3,
        folder=str(tmp_path),
    )
    answer = export_model(msgspec.to_builtins(spec), 18, str(tmp_path))
    kept = reference(msgspec.convert(answer["model"], Model))
    np.testing.assert_array_equal(kept["inputs/x"][:, 0], rows[[1, 4, 7]])
