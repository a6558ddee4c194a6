"""The zoo's networks in float16, bfloat16, int8 and float8: signal to noise against float32."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnx_graphs as graphs
import onnxruntime
import pytest
from onnx import TensorProto
from onnxruntime import quantization as q

from edgedeploy.graph.fp8 import to_fp8
from edgedeploy.graph.qdq import check_qdq
from edgedeploy.graph.simplify import simplify
from edgedeploy.graph.typed import to_type
from edgedeploy.graph.weights import tensors
from edgedeploy.zoo import digits, mobilenet, resnet_cifar, yunet
from edgedeploy.zoo.digits_data import load_split

# beyond this its fusions take float8 for int8, and give wrong numbers
SETTINGS = onnxruntime.SessionOptions()
SETTINGS.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
PROVIDER = ["CPUExecutionProvider"]
Networks = Mapping[str, onnx.ModelProto]
NETWORKS = {
    "digits": (digits.build, (1, 1, 8, 8)),
    "ResNet20": (resnet_cifar.build, (1, 3, 32, 32)),
    "MobileNetV2": (lambda: mobilenet.build(10, 0.35, seed=1), (1, 3, 96, 96)),
    "YuNet": (yunet.build, (1, 3, 64, 64)),
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """By name; of digits with its trained weights, of the others with fresh ones."""
    import torch
    from safetensors.torch import load_file

    path = tmp_path_factory.mktemp("networks") / "m.onnx"
    found: dict[str, onnx.ModelProto] = {}
    for name, (build, shape) in NETWORKS.items():
        torch.manual_seed(1)
        network = build()
        if name == "digits":
            weights = Path(digits.__file__).with_name("weights") / "digits.safetensors"
            network.load_state_dict(load_file(weights))
        torch.onnx.export(
            network.eval(), (torch.zeros(shape),), path, opset_version=17, dynamo=False
        )
        found[name] = simplify(onnx.load(path))[0]
    return found


def samples(name: str, count: int) -> list[graphs.Array]:
    if name == "digits":
        return list(load_split("train")[0][:count, None])
    shape = NETWORKS[name][1]
    coarse = [graphs.draw(*shape[:2], 4, 4, seed=seed) for seed in range(count)]
    return [x.repeat(shape[2] // 4, 2).repeat(shape[3] // 4, 3) for x in coarse]


Run = Callable[..., list[graphs.Array]]


def by_definition(model: onnx.ModelProto, **inputs: graphs.Array) -> list[graphs.Array]:
    """The outputs as ONNX defines them, each operator's rounded to its type."""
    found: list[graphs.Array] = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
    return found


def snr(exact: onnx.ModelProto, other: onnx.ModelProto, name: str, run: Run = graphs.run) -> float:
    """dB over all outputs of three samples."""
    signal = noise = 0.0
    for x in samples(name, 3):
        inputs = {exact.graph.input[0].name: x}
        pairs = zip(graphs.run(exact, **inputs), run(other, **inputs), strict=True)
        for one, two in pairs:
            assert two.dtype == np.float32
            signal += float((one.astype(np.float64) ** 2).sum())
            noise += float(((one.astype(np.float64) - two) ** 2).sum())
    return 10 * float(np.log10(signal / noise))


@pytest.mark.parametrize("name", NETWORKS)
def test_float16_keeps_50_db(networks: Networks, name: str) -> None:
    exact = networks[name]
    made, _ = to_type(exact, "float16")
    onnx.checker.check_model(made, full_check=True)
    assert snr(exact, made, name) > 50
    kinds = [t.data_type for t in tensors(made.graph)]
    assert kinds.count(TensorProto.FLOAT) == (name == "YuNet")  # the scales of its Resize
    weights = sum(t.ByteSize() for t in exact.graph.initializer)
    assert sum(t.ByteSize() for t in made.graph.initializer) < 0.53 * weights


@pytest.mark.parametrize("name", ["digits", "ResNet20", "MobileNetV2"])
def test_bfloat16_keeps_30_db(networks: Networks, name: str) -> None:
    exact = networks[name]
    made, notes = to_type(exact, "bfloat16")
    onnx.checker.check_model(made, full_check=True)
    assert notes[0] == "opset raised from 17 to 22"
    assert snr(exact, made, name, by_definition) > 30
    assert not [t.name for t in tensors(made.graph) if t.data_type == TensorProto.FLOAT16]


class Images(q.CalibrationDataReader):
    """The samples of a network, once."""

    def __init__(self, name: str, value: str) -> None:
        self.left = iter([{value: x} for x in samples(name, 16)])

    def get_next(self) -> dict[str, graphs.Array] | None:
        return next(self.left, None)


def quantized(networks: Networks, name: str, folder: Path) -> onnx.ModelProto:
    """int8 by symmetric Q/DQ, as the compilers make it for explicit quantization."""
    source = graphs.saved(networks[name], folder / "float.onnx")
    q.quantize_static(
        str(source),
        str(folder / "int8.onnx"),
        Images(name, networks[name].graph.input[0].name),
        per_channel=True,
        activation_type=q.QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
    )
    return onnx.load(folder / "int8.onnx")


@pytest.mark.parametrize("name", ["digits", "ResNet20"])
def test_float8_has_three_bits_of_int8_s_seven(
    networks: Networks, name: str, tmp_path: Path
) -> None:
    """A Q/DQ pair of float8 E4M3 leaves 31 dB whatever the range; some 20 dB after a network."""
    exact, int8 = networks[name], quantized(networks, name, tmp_path)
    assert check_qdq(int8) == []
    made, notes = to_fp8(int8)
    onnx.checker.check_model(made, full_check=True)
    pairs = sum(n.op_type == "QuantizeLinear" for n in int8.graph.node)
    weights = sum(t.data_type == TensorProto.INT8 and t.dims != [] for t in int8.graph.initializer)
    assert notes == [
        "opset raised from 17 to 19",
        f"float8 E4M3 in the place of int8: {pairs} activations and {weights // 2} weights",
    ]
    assert check_qdq(made) == []
    assert not {t.data_type for t in tensors(made.graph)} & {TensorProto.INT8, TensorProto.UINT8}
    assert snr(exact, int8, name) > 25
    assert snr(exact, made, name) > 18
    by_operator = snr(exact, made, name, by_definition)
    assert by_operator == pytest.approx(snr(exact, made, name), abs=2)


def test_digits_are_read_as_well_in_every_type(networks: Networks, tmp_path: Path) -> None:
    exact, int8 = networks["digits"], quantized(networks, "digits", tmp_path)
    images, labels = load_split("test")
    value = exact.graph.input[0].name
    right = {}
    for kind, model in {
        "float32": exact,
        "float16": to_type(exact, "float16")[0],
        "int8": int8,
        "float8": to_fp8(int8, exact)[0],
    }.items():
        session = onnxruntime.InferenceSession(model.SerializeToString(), SETTINGS, PROVIDER)
        found = [session.run(None, {value: x[None]})[0].argmax() for x in images]
        right[kind] = float((np.array(found) == labels).mean())
    assert right["float16"] == right["float32"] > 0.98
    assert right["int8"] > right["float32"] - 0.01
    assert right["float8"] > right["float32"] - 0.01
