"""ONNX models exported in this process: taken as they are, made static, raised, simplified."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from exports import ExportOnnx, outputs_of, reference

from edgedeploy.errors import ExportError, InputError
from edgedeploy.graph import read
from edgedeploy.workload import DataSpec, InputSpec


@pytest.fixture
def from_onnx(tmp_path: Path) -> ExportOnnx:
    return ExportOnnx(tmp_path)


def test_onnx_is_taken_raised_and_simplified(from_onnx: ExportOnnx) -> None:
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
    from_onnx: ExportOnnx, monkeypatch: pytest.MonkeyPatch
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


def test_a_symbolic_batch_and_shapes(from_onnx: ExportOnnx) -> None:
    model = from_onnx(graphs.classifier("batch"))
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert model.outputs[0].shape == (1, 5)
    assert "symbolic batch 'batch' of x fixed to 1" in model.notes
    model = from_onnx(graphs.classifier("batch"), InputSpec(shape=(4, 3, 8, 8)))
    assert (model.inputs[0].shape, model.outputs[0].shape) == ((4, 3, 8, 8), (4, 5))
    assert reference(model)["outputs/y"].shape == (3, 4, 5)


def test_several_inputs_by_name_and_in_order(from_onnx: ExportOnnx) -> None:
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


def test_an_output_whose_shape_is_not_inferred_is_as_it_runs(from_onnx: ExportOnnx) -> None:
    """Contrib operators have no shape inference: without a shape a vendor's parser is lost."""
    gelu = graphs.node("Gelu", ["x"], ["y"], domain="com.microsoft")
    model = from_onnx(graphs.model([gelu], {"x": (1, 4)}, {"y": (None, None)}))
    assert model.outputs[0].shape == (1, 4)


def test_an_output_that_is_as_long_as_values_say(from_onnx: ExportOnnx) -> None:
    found = graphs.node("NonZero", ["f"], ["y"])
    floor = graphs.node("Floor", ["x"], ["f"])
    made = graphs.model([floor, found], {"x": (1, 9)}, {"y": (2, None)})
    made.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ExportError, match="the shape of output 'y' depends on values"):
        from_onnx(made, InputSpec(value_range=(-1.0, 2.0)))


def test_a_quantized_model_stays_as_it_is(from_onnx: ExportOnnx) -> None:
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


def test_inputs_that_are_text(from_onnx: ExportOnnx) -> None:
    made = graphs.model([graphs.node("Identity", ["x"], ["y"])], {"x": (1, 3)}, {"y": (1, 3)})
    for value in (made.graph.input[0], made.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(ExportError, match="'x' is text or a sequence"):
        from_onnx(made)


def test_external_data_over_the_limit_end_to_end(
    from_onnx: ExportOnnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_an_opset_nobody_knows_is_refused(from_onnx: ExportOnnx) -> None:
    with pytest.raises(InputError, match="opset 99 is asked for; opsets up to "):
        from_onnx(graphs.relu(), opset=99)


def test_the_data_is_the_calibrations(from_onnx: ExportOnnx, tmp_path: Path) -> None:
    rows = graphs.draw(9, 3, 8, 8)
    np.savez(tmp_path / "rows.npz", x=rows)
    spec = DataSpec(layout="npz", data="rows.npz")
    kept = reference(from_onnx(graphs.relu(), calibration=spec))
    np.testing.assert_array_equal(kept["inputs/x"][:, 0], rows[[1, 4, 7]])
