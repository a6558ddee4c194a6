"""ONNX files read and written: what is wrong with one, and weights too large for one."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import helper, numpy_helper
from onnx_graphs import model, node

from edgedeploy.errors import EdgeDeployError, ExportError, UnsupportedError
from edgedeploy.graph import read
from edgedeploy.graph.check import check_graph
from edgedeploy.graph.opset import raise_opset
from edgedeploy.graph.read import opset_of, read_onnx, real_inputs, write_onnx
from edgedeploy.graph.simplify import simplify
from edgedeploy.graph.weights import DIGEST_KEY, external

LARGE = graphs.draw(300, 300)


def refused(path: Path, kind: type[EdgeDeployError] = ExportError) -> EdgeDeployError:
    with pytest.raises(EdgeDeployError) as caught:
        read_onnx(path)
    assert isinstance(caught.value, kind)
    return caught.value


def with_external_weights(path: Path, weight: np.ndarray = LARGE) -> Path:
    """y = reshape(x @ w): the large weight and the small target shape lie in w.bin."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Reshape", ["m", "s"], ["y"])]
    weights = {"w": weight, "s": np.array([300, 1])}
    made = model(nodes, {"x": (1, 300)}, {"y": (None, None)}, weights, opset=17)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def test_a_model_comes_back_as_written(tmp_path: Path) -> None:
    made = graphs.classifier()
    write_onnx(made, tmp_path / "m.onnx")
    assert read_onnx(tmp_path / "m.onnx") == made


@pytest.mark.parametrize("cut", [1, 10, 50, 100, -1])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    path = graphs.saved(graphs.classifier(), tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    assert str(path) in refused(path).message


def test_what_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("<html>404</html>")
    assert refused(path).message.startswith(f"model {path} is not ONNX, or is truncated (16 bytes)")
    path.write_bytes(b"\x08\x08")
    assert "holds no graph (2 bytes)" in refused(path).message
    path.write_bytes(b"")
    assert refused(path, EdgeDeployError).message == f"model {path} is empty (0 bytes)"


def test_an_operator_set_from_the_future(tmp_path: Path) -> None:
    path = graphs.saved(graphs.relu(opset=99), tmp_path / "m.onnx")
    error = refused(path, UnsupportedError)
    newest = onnx.defs.onnx_opset_version()
    assert error.message == f"model {path} has opset 99; opsets up to {newest} are supported"
    assert error.hint == "Export it again with opset_version=18."
    assert error.exit_code == 4


def test_the_default_operator_set_counts() -> None:
    made = helper.make_model(
        helper.make_graph([], "g", [], []),
        opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 15)],
    )
    assert opset_of(made) == 15
    del made.opset_import[:]
    assert opset_of(made) == 0


def test_weights_listed_as_inputs() -> None:
    made = model([node("Add", ["x", "w"], ["y"])], {"x": (2,), "w": (2,)}, {"y": (2,)})
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "w"))
    assert [value.name for value in real_inputs(made)] == ["x"]


def test_external_weights_that_one_file_can_hold_are_taken_in(tmp_path: Path) -> None:
    path = with_external_weights(tmp_path / "given" / "m.onnx")
    made = read_onnx(path, tmp_path / "work")
    assert external(made) == []
    assert not (tmp_path / "work").exists()
    x = graphs.draw(1, 300)
    write_onnx(made, tmp_path / "alone.onnx")
    np.testing.assert_allclose(
        graphs.run(tmp_path / "alone.onnx", x=x)[0], (x @ LARGE).T, rtol=1e-4
    )


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over 100 kB is too large for one file."""
    monkeypatch.setattr(read, "PROTOBUF_LIMIT_BYTES", 100_000)


@pytest.mark.usefixtures("large")
def test_larger_weights_stay_in_files(tmp_path: Path) -> None:
    path = with_external_weights(tmp_path / "given" / "m.onnx")
    work = tmp_path / "work"
    work.mkdir()
    made = read_onnx(path, work)
    assert [tensor.name for tensor in external(made)] == ["w"]
    shape = next(t for t in made.graph.initializer if t.name == "s")
    assert numpy_helper.to_array(shape).tolist() == [300, 1]
    check_graph(made, work)
    kept, note = raise_opset(made, 18)
    assert note == "opset 17 kept: the weights are too large for one file"
    simplified, note = simplify(kept)
    assert note == "not simplified: its weights are too large for one file"
    write_onnx(simplified, work / "model.onnx")
    assert (work / "model.onnx").stat().st_size < 2000
    assert sorted(p.relative_to(work).as_posix() for p in work.rglob("*")) == [
        "model.onnx",
        "weights",
        "weights/w.bin",
    ]
    again = read_onnx(work / "model.onnx")
    assert [tensor.name for tensor in external(again)] == ["w"]
    path.with_name("w.bin").unlink()
    x = graphs.draw(1, 300)
    found = graphs.run(work / "model.onnx", x=x)[0]
    np.testing.assert_allclose(found, (x @ LARGE).T, rtol=1e-4)


@pytest.mark.usefixtures("large")
def test_the_models_bytes_stand_for_the_weights_in_files(tmp_path: Path) -> None:
    """Else two models that differ in weights alone would share a cache entry."""
    hashes = set()
    for seed in (1, 1, 2):
        folder = tmp_path / f"{seed}-{len(hashes)}"
        path = with_external_weights(folder / "m.onnx", graphs.draw(300, 300, seed=seed))
        made = read_onnx(path)
        assert DIGEST_KEY in {entry.key for entry in made.metadata_props}
        write_onnx(made, folder / "out.onnx")
        hashes.add(hashlib.sha256((folder / "out.onnx").read_bytes()).hexdigest())
    assert len(hashes) == 2


@pytest.mark.usefixtures("large")
def test_nan_in_weights_in_files_is_found(tmp_path: Path) -> None:
    weight = LARGE.copy()
    weight[7, 7] = np.nan
    path = with_external_weights(tmp_path / "m.onnx", weight)
    with pytest.raises(ExportError, match="weight 'w' holds NaN"):
        check_graph(read_onnx(path), tmp_path)


@pytest.mark.parametrize("limit", [100, 10**9])
def test_external_weights_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(read, "PROTOBUF_LIMIT_BYTES", limit)
    path = with_external_weights(tmp_path / "given" / "m.onnx")
    weights = path.with_name("w.bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    assert "w.bin are cut short: 1000 bytes of " in refused(path).message
    weights.unlink()
    assert refused(path).message == f"the model's weights {weights} do not exist"
    (tmp_path / "secret.bin").write_bytes(whole)
    text = path.read_bytes()
    for place in (b"../secret.bin", str(tmp_path / "secret.bin").encode()):
        made = onnx.load_model_from_string(text)
        for tensor in made.graph.initializer:
            tensor.external_data[0].value = place.decode()
        path.write_bytes(made.SerializeToString())
        assert "outside its folder" in refused(path).message
    weights.symlink_to(tmp_path / "secret.bin")
    path.write_bytes(text)
    assert "outside its folder" in refused(path).message
