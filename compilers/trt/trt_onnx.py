"""What has to be known of an ONNX file, read without the onnx package: a device may not have it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from trt_faults import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    Table = dict[str, Any]

# TensorProto.DataType -> how its numbers lie, and the bits that are 0 where a number is 0
LAYOUTS = {
    1: ("<f4", None),
    3: ("<i1", None),
    10: ("<f2", None),
    16: ("<u2", 0x7FFF),
    17: ("<u1", 0x7F),
}
EXTERNAL = 1


class Graph:
    """Nodes, constants by name, and inputs without constants: `(name, shape)`, -1 where free."""

    def __init__(self) -> None:
        self.nodes: list[Table] = []
        self.constants: dict[str, Table] = {}
        self.inputs: list[tuple[str, list[int]]] = []


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message by number: an int, or the bytes of what is longer."""
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            size, place = varint(data, place)
        else:
            size = {1: 8, 5: 4}[wire]
        if place + size > len(data):
            msg = "a field is cut short"
            raise IndexError(msg)
        yield key >> 3, data[place : place + size]
        place += size


def text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def numbers(value: int | memoryview) -> list[int]:
    """Repeated integers, packed or one of them, with a sign."""
    found, place = [], 0
    if isinstance(value, int):
        found = [value]
    else:
        while place < len(value):
            number, place = varint(value, place)
            found.append(number)
    return [number - (1 << 64) if number >> 63 else number for number in found]


def read(model: str) -> Graph:
    """The graph of a model's file. Raises `BadInput` where it is none."""
    if not Path(model).is_file():
        msg = f"model {model} does not exist"
        raise BadInput(msg, "Check the path.")
    try:
        data = memoryview(Path(model).read_bytes())
        found = [value for number, value in fields(data) if number == 7]
        return graph_of(found[-1])
    except (IndexError, KeyError, TypeError) as error:
        msg = f"{Path(model).name} is no ONNX model: {type(error).__name__}: {error}"
        raise BadInput(msg, "Check the export; onnx.checker may tell more.") from error


def graph_of(data: memoryview) -> Graph:
    """A GraphProto: nodes, initializers, inputs."""
    graph, inputs = Graph(), []
    for number, value in fields(data):
        if number == 1:
            node = node_of(value)
            graph.nodes.append(node)
            if node["op"] == "Constant" and "value" in node["attributes"]:
                graph.constants[node["outputs"][0]] = node["attributes"]["value"]
        elif number == 5:
            tensor = tensor_of(value)
            graph.constants[tensor["name"]] = tensor
        elif number == 11:
            inputs.append(input_of(value))
    graph.inputs = [each for each in inputs if each[0] not in graph.constants]
    return graph


def node_of(data: memoryview) -> Table:
    """A NodeProto: integers, lists of them and tensors among its attributes."""
    node: Table = {"inputs": [], "outputs": [], "name": "", "op": "", "domain": ""}
    node["attributes"] = {}
    for number, value in fields(data):
        if number in (1, 2):
            node["inputs" if number == 1 else "outputs"].append(text(value))
        elif number in (3, 4, 7):
            node[{3: "name", 4: "op", 7: "domain"}[number]] = text(value)
        elif number == 5:
            name, found = attribute_of(value)
            node["attributes"][name] = found
    return node


def attribute_of(data: memoryview) -> tuple[str, Any]:
    """An AttributeProto: its name; an int, a tensor or a list of ints, None of another kind."""
    name, found, listed = "", None, []
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 3:
            found = numbers(value)[0]
        elif number == 5:
            found = tensor_of(value)
        elif number == 8:
            listed += numbers(value)
    return name, listed or found


def tensor_of(data: memoryview) -> Table:
    """A TensorProto: dims, type, and where its numbers are."""
    tensor: Table = {"name": "", "dims": [], "kind": 0, "raw": b"", "floats": b"", "ints": []}
    external: dict[str, str] = {}
    for number, value in fields(data):
        if number == 1:
            tensor["dims"] += numbers(value)
        elif number == 2:
            tensor["kind"] = value
        elif number == 4:
            tensor["floats"] += bytes(value)
        elif number == 5:
            tensor["ints"] += numbers(value)
        elif number == 8:
            tensor["name"] = text(value)
        elif number == 9:
            tensor["raw"] = value
        elif number == 13:
            pair = {key: text(each) for key, each in fields(value)}
            external[pair.get(1, "")] = pair.get(2, "")
        elif number == 14 and value == EXTERNAL:
            tensor["external"] = external
    return tensor


def input_of(data: memoryview) -> tuple[str, list[int]]:
    """A ValueInfoProto: name, and shape with -1 where a size is free."""
    name, shape = "", []
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 2:
            for dim in each_dim(value):
                size = [each for key, each in fields(dim) if key == 1]
                shape.append(numbers(size[0])[0] if size else -1)
    return name, shape


def each_dim(data: memoryview) -> Iterator[memoryview]:
    """The dimensions of a TypeProto that is a tensor's."""
    for kind, tensor in fields(data):
        if kind != 1:
            continue
        for number, shape in fields(tensor):
            if number == 2:
                yield from (dim for key, dim in fields(shape) if key == 1)


def zeros(tensor: Table, folder: Path) -> np.ndarray | None:
    """Where a constant is 0, in its shape; None for a type that weights do not have."""
    if tensor["kind"] not in LAYOUTS:
        return None
    layout, bits = LAYOUTS[tensor["kind"]]
    if "external" in tensor:
        where = tensor["external"]
        start, size = int(where.get("offset", 0)), int(where.get("length", -1))
        with Path(folder, where["location"]).open("rb") as file:
            file.seek(start)
            values = np.frombuffer(file.read(size), layout)
    elif len(tensor["raw"]):
        values = np.frombuffer(tensor["raw"], layout)
    elif tensor["kind"] == 1:
        values = np.frombuffer(tensor["floats"], "<f4")
    else:
        # float16 stands there by its bits
        values = np.array(tensor["ints"], np.int64)
        bits = 0x7FFF if tensor["kind"] == 10 else bits
    return (values == 0 if bits is None else (values & bits) == 0).reshape(tensor["dims"])
