"""Inputs and outputs of PyTorch models: their order, names, shapes and kinds."""

from pathlib import Path

import msgspec
import numpy as np
import onnx_graphs as graphs
import pytest
import torch
import torch_nets as nets
from exports import ROW, Export, outputs_of, reference

from edgedeploy.graph import read
from edgedeploy.workload import InputSpec


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


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
    error = export.refused(nets.Optional(), x, scale)
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
    error = export.refused(nets.Linear(), *inputs)
    assert error.message.startswith(message)
    assert error.hint


def test_a_module_does_not_tell_its_inputs(export: Export) -> None:
    error = export.refused(nets.Linear(), arrays={})
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
    error = export.refused(nets.Named(), outputs=("only",))
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
    error = export.refused(program, scaled)
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
