"""2:4 sparsity: which products of a model have weights that the sparse kernels take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from trt_onnx import zeros

if TYPE_CHECKING:
    from pathlib import Path

    from trt_onnx import Graph

    Table = dict[str, Any]

PRODUCTS = ("Conv", "Gemm", "MatMul")
THROUGH = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose")
GROUP, ZEROS = 4, 2


class Sparsity:
    """How many products with constant weights there are, and the names of those that qualify."""

    def __init__(self, products: int, names: list[str]) -> None:
        self.products, self.names = products, names

    def __str__(self) -> str:
        share = 100 * len(self.names) / max(self.products, 1)
        return f"{len(self.names)} of {self.products} layers ({share:.0f} %)"


def sparsity(graph: Graph, folder: Path) -> Sparsity:
    """Look at the weights of each convolution and product of matrices.

    They qualify where of each four neighbours along the axis that is summed over (input channels,
    for each output channel and place of the kernel) at least two are 0.
    """
    makers = {name: node for node in graph.nodes for name in node["outputs"]}
    known: dict[tuple[str, int], bool] = {}
    products, names = 0, []
    for node in graph.nodes:
        if node["op"] not in PRODUCTS or len(node["inputs"]) < 2:
            continue
        name, turned = constant_of(node["inputs"][1], graph, makers)
        if name is None:
            continue
        products += 1
        axis = summed_axis(node, len(graph.constants[name]["dims"]))
        if turned:
            axis = {-1: -2, -2: -1}.get(axis, axis)
        if (name, axis) not in known:
            empty = zeros(graph.constants[name], folder)
            known[name, axis] = empty is not None and qualifies(empty, axis)
        if known[name, axis]:
            names.append(node["name"] or node["outputs"][0])
    return Sparsity(products, names)


def summed_axis(node: Table, rank: int) -> int:
    """The axis of a node's weights that it sums over, from the end."""
    if node["op"] == "Conv":
        return 1 - rank
    return -1 if node["attributes"].get("transB") else -2


def constant_of(name: str, graph: Graph, makers: dict[str, Table]) -> tuple[str | None, bool]:
    """The constant behind what only changes its type, and whether it is transposed on the way."""
    turned = False
    while name not in graph.constants:
        node = makers.get(name)
        if node is None or node["op"] not in THROUGH:
            return None, False
        turned ^= node["op"] == "Transpose"
        name = node["inputs"][0]
    return name, turned


def qualifies(empty: np.ndarray, axis: int) -> bool:
    """Whether of each four along an axis at least two are 0."""
    if empty.ndim < -axis or empty.shape[axis] % GROUP or not empty.size:
        return False
    groups = np.moveaxis(empty, axis, -1).reshape(-1, GROUP)
    return bool((groups.sum(axis=1) >= ZEROS).all())
