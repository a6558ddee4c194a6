"""Small networks compiled for ESP-DL once and shared by all tests that look at them."""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import tiny_onnx as tiny
from numpy.typing import NDArray
from onnx import helper

Array = NDArray[Any]
node = helper.make_node
COUNT = 12
FOLDER = tempfile.TemporaryDirectory(prefix="espdl-tests-")


class Network(NamedTuple):
    model: str
    calibration: str
    samples: dict[str, Array]


class Compiled(NamedTuple):
    network: Network
    answer: dict[str, Any]
    path: Path
    kept: Path


def drawn(seed: int, *shape: int) -> Array:
    """Weights whose outputs are about as large as their inputs."""
    scale = np.sqrt(2 / np.prod(shape[1:]))
    values: Array = np.random.default_rng(seed).standard_normal(shape) * scale
    return values.astype(np.float32)


def network(folder: Path, name: str) -> Network:
    """One of the networks below, with calibration samples."""
    folder.mkdir(parents=True, exist_ok=True)
    model, shapes = NETWORKS[name](folder / f"{name}.onnx")
    draw = np.random.default_rng(7)
    samples = {
        key: draw.standard_normal((COUNT, *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }
    return Network(model, tiny.samples(folder / f"{name}.npz", **samples), samples)


def plain(path: Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Convolutions, depthwise too, an addition, a mean and a matrix; batch free."""
    return tiny.conv_net(path, batch="batch"), {"x": (1, 3, 16, 16)}


def ends(path: Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Two inputs; outputs of rank 4, 3, 2 and 1, and one whose last node is a transpose."""
    weights = {
        "w1": drawn(1, 8, 3, 3, 3),
        "w2": drawn(2, 4, 8, 1, 1),
        "w3": drawn(3, 4, 6),
        "w4": drawn(4, 4, 6, 6),
        "rows": np.array([1, 8, -1], np.int64),
        "one": np.array([1, -1], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu"),
        node("MaxPool", ["r1"], ["m"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node(
            "Resize",
            ["m", "", "scales"],
            ["up"],
            name="resize",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        node("Concat", ["r1", "up"], ["both"], name="concat", axis=1),
        node("Reshape", ["m", "rows"], ["rows_out"], name="flatten_rows"),
        node("Transpose", ["r1"], ["moved"], name="move", perm=[0, 2, 3, 1]),
        node("Conv", ["r1", "w2"], ["c2"], name="second"),
        node("GlobalAveragePool", ["c2"], ["mean"], name="mean"),
        node("Reshape", ["mean", "one"], ["flat"], name="flatten"),
        node("Sigmoid", ["z"], ["gate"], name="gate"),
        node("Add", ["flat", "gate"], ["sum"], name="add"),
        node("Gemm", ["sum", "w3"], ["y"], name="classifier"),
        node("ReduceMean", ["y"], ["level"], name="level", axes=[1], keepdims=0),
    ]
    inputs = [tiny.value("x", (1, 3, 8, 10)), tiny.value("z", (1, 4))]
    outputs = [
        tiny.value("y", (1, 6)),
        tiny.value("both", (1, 16, 8, 10)),
        tiny.value("rows_out", (1, 8, 20)),
        tiny.value("moved", (1, 8, 10, 8)),
        tiny.value("level", (1,)),
    ]
    model = tiny.write(path, nodes, inputs, outputs, weights)
    return model, {"x": (1, 3, 8, 10), "z": (1, 4)}


def uneven(path: Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Two layers, the channels between them of sizes 1 to 60: bad for one scale a tensor."""
    sizes = np.geomspace(1, 60, 8).astype(np.float32)
    weights = {
        "w1": drawn(1, 8, 3, 3, 3) * sizes[:, None, None, None],
        "b1": np.zeros(8, np.float32),
        "w2": drawn(2, 6, 8, 1, 1) / sizes[None, :, None, None],
        "b2": np.zeros(6, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], name="wide", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu"),
        node("Conv", ["r1", "w2", "b2"], ["y"], name="narrow"),
    ]
    ends = [tiny.value("x", (1, 3, 8, 8))], [tiny.value("y", (1, 6, 8, 8))]
    return tiny.write(path, nodes, *ends, weights), {"x": (1, 3, 8, 8)}


NETWORKS: dict[str, Callable[[Path], tuple[str, dict[str, tuple[int, ...]]]]] = {
    "plain": plain,
    "ends": ends,
    "uneven": uneven,
}


@functools.cache
def compiled(name: str, precision: str = "int8", options: str = "{}") -> Compiled:
    """A network compiled with options (JSON), once for all tests, which leave its files alone."""
    folder = Path(tempfile.mkdtemp(dir=FOLDER.name))
    given = network(folder, name)
    output = folder / "artifact"
    output.mkdir()
    answer = tiny.program("compilers", "espdl").compile_model(
        given.model, str(output), precision, given.calibration, json.loads(options)
    )
    return Compiled(given, answer, Path(answer["path"]), Path(answer["kept"]))


def float_outputs(given: Network) -> dict[str, Array]:
    """The outputs of the float model on all samples, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(given.model)
    names = [value.name for value in session.get_outputs()]
    runs = [
        session.run(names, {key: values[i] for key, values in given.samples.items()})
        for i in range(COUNT)
    ]
    return {name: np.stack([run[place] for run in runs]) for place, name in enumerate(names)}


class Tensor(NamedTuple):
    name: str
    exponent: int
    values: Array


class Read(NamedTuple):
    metadata: dict[str, str]
    operators: list[tuple[str, str]]
    inputs: list[Tensor]
    outputs: list[Tensor]
    input_names: list[str]
    output_names: list[str]


def read(path: Path) -> Read:
    """What a model file holds: metadata, nodes and test vectors, with the vendor's own reader."""
    from esp_ppq.parser.espdl.FlatBuffers.Dl.Model import Model

    data = path.read_bytes()
    assert data[:4] == b"EDL2"
    model = Model.GetRootAs(data[16:], 0)
    graph = model.Graph()
    kinds = {1: np.float32, 3: np.int8, 5: np.int16}

    def tensor(found: Any) -> Tensor:
        shape = tuple(found.Dims(i) for i in range(found.DimsLength()))
        raw = b"".join(
            bytes(found.RawData(i).Bytes(j) for j in range(16))
            for i in range(found.RawDataLength())
        )
        values = np.frombuffer(raw, kinds[found.DataType()])[: int(np.prod(shape))].reshape(shape)
        return Tensor(found.Name().decode(), int(found.Exponents(0)), values)

    entries = [model.MetadataProps(i) for i in range(model.MetadataPropsLength())]
    nodes = [graph.Node(i) for i in range(graph.NodeLength())]
    return Read(
        {entry.Key().decode(): entry.Value().decode() for entry in entries},
        [(each.Name().decode(), each.OpType().decode()) for each in nodes],
        [tensor(graph.TestInputsValue(i)) for i in range(graph.TestInputsValueLength())],
        [tensor(graph.TestOutputsValue(i)) for i in range(graph.TestOutputsValueLength())],
        [graph.Input(i).Name().decode() for i in range(graph.InputLength())],
        [graph.Output(i).Name().decode() for i in range(graph.OutputLength())],
    )
