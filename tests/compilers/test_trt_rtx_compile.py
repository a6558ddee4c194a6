"""Real engines by TensorRT-RTX, with no card and no driver: what is in them, what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import pytest
import tiny_onnx as tiny
from onnx import TensorProto, helper

from edgedeploy.errors import EdgeDeployError, InputError, MissingError, UnsupportedError
from edgedeploy.graph.typed import to_fp8, to_type
from edgedeploy.interpreter import choose
from edgedeploy.worker import SERVE, Worker

PROGRAM = tiny.ROOT / "compilers" / "trt_rtx.py"
CARDS = {"compute_capability": ["8.6", "8.9"]}
SYMMETRIC = {
    "activation": "qint8",
    "weight": "qint8",
    "symmetric_activation": True,
    "quantize_bias": False,
}
Table = dict[str, Any]
node = helper.make_node


class Build(Protocol):
    """Build a model into a folder; the program's answer."""

    def __call__(self, model: str, precision: str = "fp32", **options: Any) -> Table: ...


@pytest.fixture(scope="session")
def rtx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The program served in its own environment, made once beside the shared cache."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEDEPLOY_CACHE", str(folder))
        for name in [name for name in os.environ if name.startswith("EDGEDEPLOY_PYTHON")]:
            patch.delenv(name)
        try:
            python = choose(PROGRAM).path
        except MissingError as error:
            pytest.skip(f"no environment with TensorRT-RTX: {error}")
        with Worker("trt_rtx", [python, str(SERVE), str(PROGRAM)]) as worker:
            yield worker


@pytest.fixture
def build(rtx: Worker, tmp_path: Path) -> Build:
    def built(model: str, precision: str = "fp32", **options: Any) -> Table:
        output = tmp_path / f"built-{len(list(tmp_path.glob('built-*')))}" / "artifact"
        output.mkdir(parents=True)
        return rtx.call(
            "compile_model",
            model=model,
            output=str(output),
            precision=precision,
            calibration=None,
            options={**CARDS, **options},
        )

    return built


@pytest.fixture
def refuse(build: Build) -> Any:
    """The message and the remedy of what a build is refused with."""

    def refused(kind: type[EdgeDeployError], *arguments: str, **options: Any) -> tuple[str, str]:
        with pytest.raises(kind) as caught:
            build(*arguments, **options)
        return caught.value.message, caught.value.hint

    return refused


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny.conv_net(tmp_path / "net.onnx")


def typed(model: str, dtype: Any) -> str:
    path = Path(model).with_suffix(f".{dtype}.onnx")
    onnx.save(to_type(onnx.load(model), dtype)[0], str(path))
    return str(path)


def quantized(model: str, **options: Any) -> str:
    data = tiny.samples(Path(model).with_name("calibration.npz"), x=tiny.images())
    folder = Path(model).with_name("quantized")
    folder.mkdir(exist_ok=True)
    ort = tiny.program("compilers", "ort")
    answer = ort.quantize_model(model, str(folder), data, {**SYMMETRIC, **options})
    return str(answer["path"])


def findings(answer: Table) -> Table:
    found: Table = json.loads(Path(answer["kept"], "build.json").read_text())
    return found


def sidecar(answer: Table) -> Table:
    found: Table = json.loads(Path(answer["path"]).with_name("model.json").read_text())
    return found


def test_fp32_for_two_generations_of_cards(build: Build, model: str, tmp_path: Path) -> None:
    answer = build(model)
    folder, kept = Path(answer["path"]).parent, Path(answer["kept"])
    assert sorted(path.name for path in folder.iterdir()) == ["model.engine", "model.json"]
    assert kept == folder.parent / "kept"
    names = ["build.json", "build.log", "layers.json", "model.onnx"]
    assert sorted(path.name for path in kept.iterdir()) == names
    assert (kept / "model.onnx").read_bytes() == Path(model).read_bytes()
    assert "[I] Engine generation completed" in (kept / "build.log").read_text()
    version = answer["tools"]["tensorrt-rtx"]
    assert version.startswith("1.7.")
    assert "virtual" not in answer
    assert sidecar(answer) == {
        "format": 1,
        "flavour": "tensorrt_rtx",
        "version": version,
        "compute_capability": ["8.6", "8.9"],
        "precision": "fp32",
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": [1, 3, 16, 16], "profile": None},
        ],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 5]}],
    }
    found = findings(answer)
    assert found["engine_bytes"] == Path(answer["path"]).stat().st_size
    assert found["network_types"]["float32"] == found["network_layers"]
    assert found["engine_inputs"] == {"float32": 3}
    # 8 x 27 + 8 x 9 + 64 + 40 weights and 21 biases of 4 bytes, padded for the hardware
    assert found["weight_bytes"] >= 4 * 413
    (note,) = answer["notes"]
    assert note.startswith(f"{found['network_layers']} layers of the network, ")
    assert "3 take float32); engine for SM86 and SM89; weights " in note
    assert str(tmp_path).encode() not in Path(answer["path"]).read_bytes()


@pytest.mark.parametrize(
    ("dtype", "precision"), [("float16", "fp16"), ("bfloat16", "bf16")], ids=["fp16", "bf16"]
)
def test_a_typed_model_is_built_in_its_type(
    dtype: str, precision: str, build: Build, model: str
) -> None:
    answer = build(typed(model, dtype), precision)
    # the ends stay in float32, which takes a cast each
    assert sidecar(answer)["inputs"][0]["dtype"] == "float32"
    assert findings(answer)["network_types"][dtype] > 10
    assert dtype in findings(answer)["engine_inputs"]


def test_symmetric_qdq_is_computed_in_int8(build: Build, model: str) -> None:
    answer = build(quantized(model), "int8")
    # three convolutions and a product: none has fallen back to floats
    assert findings(answer)["engine_inputs"]["int8"] >= 4
    layers = json.loads(Path(answer["kept"], "layers.json").read_text())
    products = [layer for layer in layers if layer["kind"] in ("correlation", "gemm")]
    assert {layer["inputs"][0] for layer in products} == {"int8"}
    assert any("first" in layer["nodes"] for layer in products)


def test_fp8_is_for_cards_that_have_it(build: Build, refuse: Any, model: str) -> None:
    path = Path(model).with_name("fp8.onnx")
    onnx.save(to_fp8(onnx.load(quantized(model)))[0], str(path))
    answer = build(str(path), "fp8", compute_capability="8.9,12.0")
    assert sidecar(answer)["compute_capability"] == ["8.9", "12.0"]
    assert findings(answer)["engine_inputs"]["fp8"] >= 2
    message, hint = refuse(UnsupportedError, str(path), "fp8")
    assert message == "sm86 cannot compute in fp8_e4m3"
    assert "compute_capability" in hint


def test_fp32_is_without_tf32_and_tf32_is_to_be_asked_for(build: Build, model: str) -> None:
    exact, rounded = build(model), build(model, "tf32")
    assert Path(exact["path"]).read_bytes() != Path(rounded["path"]).read_bytes()
    assert sidecar(rounded)["precision"] == "tf32"


def test_equal_builds_give_equal_bytes(build: Build, model: str) -> None:
    first = build(quantized(model), "int8", compute_capability=["8.9", "8.6"])
    second = build(quantized(model), "int8")
    for name in ("model.engine", "model.json"):
        one, other = (Path(each["path"]).with_name(name) for each in (first, second))
        assert one.read_bytes() == other.read_bytes()
    assert first["options"] == second["options"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"quantize_bias": True},
            "a bias in 32 bits is quantized, and biases have to stay in float",
        ),
        (
            {"activation": "quint8", "symmetric_activation": False},
            "its zero point is not 0, and quantization has to be symmetric",
        ),
    ],
    ids=["bias", "zero point"],
)
def test_other_quantization_is_refused_by_node(
    options: Table, said: str, refuse: Any, model: str
) -> None:
    message, hint = refuse(UnsupportedError, quantized(model, **options), "int8")
    assert message.startswith("the parser cannot take node '")
    assert message.endswith(f"Linear): {said}")
    assert "quantize_bias = false" in hint


def test_a_graph_in_another_type_than_the_precision_is_refused(refuse: Any, model: str) -> None:
    half, integer = typed(model, "float16"), quantized(model)
    message, hint = refuse(InputError, model, "int8")
    assert "net.onnx has no Q/DQ nodes" in message
    assert "quantizer" in hint
    message, hint = refuse(InputError, model, "fp16")
    assert "no float16 tensor" in message
    assert "`typed`" in hint
    assert "computes in float16" in refuse(InputError, half, "fp32")[0]
    assert "computes in int8" in refuse(InputError, integer, "fp32")[0]
    message, hint = refuse(UnsupportedError, model, "int4")
    assert "fp32, tf32, fp16, bf16, int8, fp8" in hint


@pytest.mark.parametrize(("op_type", "shape"), [("Det", [4, 4]), ("DFT", [1, 8, 2])])
def test_an_operator_without_an_importer_is_named_before_the_build(
    op_type: str, shape: list[int], refuse: Any, tmp_path: Path
) -> None:
    nodes = [node("Relu", ["x"], ["r"], name="fine"), node(op_type, ["r"], ["y"], name="spoils")]
    path = tiny.write(
        tmp_path / "net.onnx", nodes, [tiny.value("x", shape)], [tiny.value("y", None)]
    )
    message, hint = refuse(UnsupportedError, path)
    assert message == (
        f"the parser cannot take node 'spoils' ({op_type}): there is no such operator"
    )
    assert "the rest runs on the host" in hint


def test_what_is_no_model_is_told(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model at all")
    message, hint = refuse(InputError, str(tmp_path / "net.onnx"))
    assert message == "model.onnx is no ONNX model that the parser can read"
    assert "onnx.checker" in hint
    assert "does not exist" in refuse(InputError, str(tmp_path / "other.onnx"))[0]


def test_which_cards(build: Build, refuse: Any, model: str) -> None:
    assert sidecar(build(model, compute_capability="12.0, 8.6"))["compute_capability"] == [
        "8.6",
        "12.0",
    ]
    portable = build(model, compute_capability="portable")
    assert sidecar(portable)["compute_capability"] == []
    assert "engine for compute capability 8.0 and later" in portable["notes"][0]
    message, hint = refuse(UnsupportedError, model, compute_capability=["9.0"])
    assert "has no compute capability 9.0" in message
    assert hint == "It has 7.5, 8.0, 8.6, 8.9, 12.0, 12.1."
    message, hint = refuse(UnsupportedError, model, compute_capability=["7.5", "8.6"])
    assert message.startswith("compute capability 7.5 (Turing) cannot run node '")
    assert "Take fp16" in hint
    assert build(typed(model, "float16"), "fp16", compute_capability=["7.5"])["notes"]
    message, hint = refuse(InputError, model, compute_capability=["sm86"])
    assert "expected numbers such as 8.6" in message
    assert "--compute-capability 8.6,8.9" in hint


def test_the_card_here_is_missing_without_a_driver(rtx: Worker, refuse: Any, model: str) -> None:
    if "card" in rtx.call("probe")["tools"]:
        pytest.skip("a card is here")
    message, hint = refuse(MissingError, model, compute_capability="found")
    assert message.startswith("compute_capability is 'found', and no card was found: ")
    assert "--compute-capability 8.6,8.9" in hint


def test_a_free_batch_axis_gets_a_profile(build: Build, refuse: Any, tmp_path: Path) -> None:
    path = tiny.conv_net(tmp_path / "net.onnx", batch="N")
    message, hint = refuse(InputError, path)
    assert message.startswith("input 'x' is [-1, 3, 16, 16] (-1 is free)")
    assert "max_batch" in hint
    profile = {end: [size, 3, 16, 16] for end, size in (("min", 2), ("opt", 4), ("max", 16))}
    for options, wanted in (
        ({"max_batch": 8}, {"min": 1, "opt": 8, "max": 8}),
        ({"profiles": {"x": profile}}, {"min": 2, "opt": 4, "max": 16}),
    ):
        (found,) = sidecar(build(path, **options))["inputs"]
        assert found["shape"] == [-1, 3, 16, 16]
        assert {end: shape[0] for end, shape in found["profile"].items()} == wanted
    profile["max"] = [16, 3, 32, 16]
    assert "Keep the model's fixed sizes." in refuse(InputError, path, profiles={"x": profile})[1]


def test_max_batch_frees_the_batch_axis_of_a_static_model(build: Build, model: str) -> None:
    answer = build(model, max_batch=4)
    described = sidecar(answer)
    assert described["inputs"][0]["profile"]["max"] == [4, 3, 16, 16]
    assert described["outputs"][0]["shape"] == [-1, 5]
    kept = onnx.load(str(Path(answer["kept"], "model.onnx")))
    assert kept.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("Softmax", ["x"], ["y"], name="mixes", axis=0)], "'mixes' (Softmax) works along"),
        (
            [
                node("ReduceMean", ["x"], ["m"], name="mixes", axes=[0], keepdims=1),
                node("Add", ["x", "m"], ["y"], name="fine"),
            ],
            "layer 'mixes' gives [1, 4, 8]",
        ),
    ],
    ids=["along the batch", "batch lost"],
)
def test_a_model_that_mixes_its_batch_keeps_its_size(
    nodes: list[onnx.NodeProto], said: str, build: Build, refuse: Any, tmp_path: Path
) -> None:
    ends = [tiny.value(name, [1, 4, 8]) for name in "xy"]
    path = tiny.write(tmp_path / "net.onnx", nodes, ends[:1], ends[1:])
    assert build(path)["notes"]
    message, hint = refuse(UnsupportedError, path, max_batch=4)
    assert said in message
    assert "Leave `max_batch` out" in hint


def test_a_reshape_follows_the_batch(build: Build, tmp_path: Path) -> None:
    path = tiny.write(
        tmp_path / "net.onnx",
        [node("Reshape", ["x", "shape"], ["y"], name="flat")],
        [tiny.value("x", [1, 4, 8])],
        [tiny.value("y", [1, 32])],
        {"shape": np.array([1, 32])},
    )
    assert sidecar(build(path, max_batch=4))["outputs"][0]["shape"] == [-1, 32]


def test_options_reach_the_builder(build: Build, refuse: Any, model: str) -> None:
    answer = build(model, workspace_bytes=64 << 20, optimization_level=2)
    assert answer["options"] == {
        "workspace_bytes": 64 << 20,
        "optimization_level": 2,
        "max_batch": 0,
        "profiles": {},
        "compute_capability": ["8.6", "8.9"],
    }
    message, hint = refuse(InputError, model, workspace_bytes=16)
    assert message == "no kernel fits workspace_bytes = 16"
    assert "Raise `workspace_bytes`" in hint
    assert "'workspace_bytes'" in refuse(InputError, model, workspace_byte=1)[1]
    assert "optimization_level: 7" in refuse(InputError, model, optimization_level=7)[0]


def test_options_of_the_other_product_are_refused_with_the_reason(refuse: Any, model: str) -> None:
    message, _ = refuse(UnsupportedError, model, hardware_compatible="ampere_plus")
    assert "name several cards in `compute_capability`" in message
    assert "timing cache" in refuse(UnsupportedError, model, timing_cache=True)[0]
    assert "same engine with and without" in refuse(UnsupportedError, model, sparsity=True)[0]


def test_integers_in_and_booleans_between(build: Build, tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["table", "ids"], ["rows"], name="embed"),
        node("ReduceSum", ["rows", "axis"], ["y"], name="sum", keepdims=0),
    ]
    path = tiny.write(
        tmp_path / "net.onnx",
        nodes,
        [tiny.value("ids", [1, 6], TensorProto.INT64)],
        [tiny.value("y", [1, 4])],
        {"table": np.ones((9, 4), np.float32), "axis": np.array([1])},
    )
    (found,) = sidecar(build(path))["inputs"]
    assert (found["name"], found["dtype"], found["shape"]) == ("ids", "int64", [1, 6])
