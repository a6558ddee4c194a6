"""Whole models become real TensorRT-RTX engines for two generations of cards, and are kept."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny_onnx as tiny

from edgedeploy.cache import Cached
from edgedeploy.calibrate import calibrate
from edgedeploy.compile import compile_model
from edgedeploy.compilers import Compilers
from edgedeploy.errors import MissingError
from edgedeploy.export import export
from edgedeploy.graph.cut import cut
from edgedeploy.graph.read import read_onnx, write_onnx
from edgedeploy.records import Artifact, Calibration
from edgedeploy.target import load_target, load_targets
from edgedeploy.workload import Workload, load_workload

PROGRAM = tiny.ROOT / "compilers" / "trt_rtx.py"
(TARGET,) = load_targets("rtx", compute_capability="8.6,8.9")
RESNET20 = """
[model]
source = "edgedeploy.zoo.resnet_cifar:build"
[[inputs]]
name = "images"
shape = [1, 3, 32, 32]
dtype = "float32"
layout = "NCHW"
[calibration]
layout = "seeded"
count = 4
"""
YUNET = """
[model]
source = "edgedeploy.zoo.yunet:build"
[[inputs]]
name = "image"
shape = [1, 3, 640, 640]
dtype = "float32"
layout = "NCHW"
color = "bgr"
value_range = [0.0, 255.0]
[calibration]
layout = "seeded"
count = 2
"""
# convolutions and products of a model: what an engine is to compute in the type asked for
PRODUCTS = {"digits": 5, "resnet20": 20, "mobilenetv2": 53, "yunet": 59}
Make = Callable[..., tuple[Artifact, list[Cached]]]


@pytest.fixture
def make(shared_cache: Path) -> Iterator[Make]:
    """Deploy a workload's model up to the engine; the artifact and what the cache did."""
    with Compilers() as compilers:
        try:
            compilers.interpreter(PROGRAM)
        except MissingError as error:
            pytest.skip(f"no environment with TensorRT-RTX: {error}")

        def made(workload: Workload, precision: str) -> tuple[Artifact, list[Cached]]:
            exported, _ = export(workload, TARGET.opset)

            def calibration() -> Calibration:
                return calibrate(workload, exported.inputs)[0]

            return compile_model(
                exported.model,
                TARGET,
                precision,
                workload,
                compilers=compilers,
                calibration=calibration,
            )

        yield made


def workload_of(name: str, folder: Path) -> Workload:
    texts = {"resnet20": RESNET20, "yunet": YUNET}
    if name not in texts:
        return load_workload(name)
    path = folder / f"{name}.toml"
    path.write_text(texts[name], encoding="utf-8")
    return load_workload(path)


def kept(artifact: Artifact, name: str) -> Any:
    assert artifact.kept is not None
    return json.loads(Path(artifact.kept, name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "resnet20",
        "mobilenetv2",
        "yunet",
    ],
)
def test_models_become_engines_in_all_precisions(name: str, make: Make, tmp_path: Path) -> None:
    workload = workload_of(name, tmp_path)
    sizes = {}
    for precision, kind in (("fp32", "float32"), ("fp16", "float16"), ("int8", "int8")):
        artifact, _ = make(workload, precision)
        described = json.loads(Path(artifact.path).with_name("model.json").read_text())
        assert described["compute_capability"] == ["8.6", "8.9"]
        assert described["precision"] == precision
        assert {end["dtype"] for end in (*described["inputs"], *described["outputs"])} == {
            "float32"
        }
        found = kept(artifact, "build.json")
        sizes[precision] = found["weight_bytes"]
        assert found["engine_inputs"][kind] >= PRODUCTS[name] - (precision != "int8")
        products = [
            layer["inputs"][0]
            for layer in kept(artifact, "layers.json")
            if layer["kind"] in ("correlation", "gemm")
        ]
        assert set(products) == {kind}
        assert artifact.tools["tensorrt-rtx"].startswith("1.7.")
        assert not artifact.virtual
    assert sizes["fp16"] < 0.6 * sizes["fp32"] or name == "yunet"


def test_a_second_build_comes_from_the_cache(make: Make) -> None:
    workload = load_workload("digits")
    first, _ = make(workload, "int8")
    second, events = make(workload, "int8")
    assert [(done.event.stage, done.event.outcome) for done in events] == [
        ("quantize", "hit"),
        ("compile", "hit"),
    ]
    assert second == first
    assert Path(second.path).is_file()


def test_yunet_up_to_its_end_nodes(make: Make, tmp_path: Path) -> None:
    exported, _ = export(workload_of("yunet", tmp_path), TARGET.opset)
    graph = read_onnx(Path(exported.model.path))
    ends = [node.input[0] for node in graph.graph.node if node.op_type == "Transpose"]
    assert len(ends) == 12
    write_onnx(cut(graph, ends)[0], tmp_path / "heads.onnx")
    heads = onnx.load(str(tmp_path / "heads.onnx"))
    assert len(heads.graph.output) == 12
    path = tmp_path / "heads.toml"
    path.write_text(
        '[model]\nsource = "heads.onnx"\n[[inputs]]\nlayout = "NCHW"\n'
        "value_range = [0.0, 255.0]\n"
        '[calibration]\nlayout = "seeded"\ncount = 2\n'
    )
    for precision in ("fp16", "int8"):
        artifact, _ = make(load_workload(path), precision)
        outputs = json.loads(Path(artifact.path).with_name("model.json").read_text())["outputs"]
        assert [end["shape"][1] for end in outputs] == [1] * 6 + [4] * 3 + [10] * 3


@pytest.mark.parametrize(
    ("name", "capability"),
    [("rtx", "found"), ("rtx-3090", ["8.6"]), ("rtx-4090", ["8.9"]), ("rtx-5090", ["12.0"])],
)
def test_targets(name: str, capability: str | list[str]) -> None:
    target = load_target(name)
    assert target.compile_options == {"compute_capability": capability}
    assert target.precisions == ("fp32", "fp16", "int8")
    assert target.typed == {"fp16": "float16"}
    assert target.quantize_options["quantize_bias"] is False
    assert target.quantize_options["symmetric_activation"] is True
    assert target.spread_limit == 0.025
    assert all(fact.source for fact in target.facts)
    if isinstance(capability, list):
        facts = {fact.name: fact.value for fact in target.facts}
        assert facts["compute capability"] == capability[0]
        assert facts["peak, int8"] > facts["peak, float16"] > facts["peak, float32"]
