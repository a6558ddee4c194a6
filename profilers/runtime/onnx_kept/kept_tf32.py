"""A float32 graph whose products take factors of TF32: 10 bits behind the point, as on the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
from kept_widen import FLOAT, copies, inferred, kinds_of

if TYPE_CHECKING:
    from pathlib import Path

# what tensor cores compute, and the inputs that are factors
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
FACTORS = 2
# x times this, less its difference to x, is x rounded to the 11 bits of TF32's significand
# (Veltkamp's splitting: T. J. Dekker, Numerische Mathematik 18, 1971); exact in float32
SPLIT = 2.0**13 + 1


def shorten(model: onnx.ModelProto, path: Path) -> None:
    """Round the float32 factors of products to TF32; `path` is the model's file.

    Weights are rounded here, activations by three nodes each. Sums stay float32. Products within
    branches and loops are left as they are.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kinds = kinds_of(inferred(path).graph)
    made: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in PRODUCTS:
            for place, name in enumerate(node.input[:FACTORS]):
                if kinds.get(name) != FLOAT:
                    continue
                node.input[place] = f"{name}/tf32"
                if name not in made:
                    made.add(name)
                    if name in weights:
                        value = onnx.numpy_helper.to_array(weights[name])
                        short = onnx.numpy_helper.from_array(rounded(value), f"{name}/tf32")
                        graph.initializer.append(short)
                    else:
                        nodes += splitting(name)
        nodes.append(node)
    graph.initializer.append(onnx.helper.make_tensor("tf32/split", FLOAT, [], [SPLIT]))
    kept = copies(nodes)
    del graph.node[:]
    graph.node.extend(kept)


def rounded(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values to the nearest of TF32, as the nodes of `splitting` round them."""
    large = (value * np.float32(SPLIT)).astype(np.float32)
    return np.asarray(large - (large - value), np.float32)


def splitting(name: str) -> list[onnx.NodeProto]:
    """Nodes that round a tensor to `NAME/tf32`."""
    node = onnx.helper.make_node
    return [
        node("Mul", [name, "tf32/split"], [f"{name}/tf32/large"]),
        node("Sub", [f"{name}/tf32/large", name], [f"{name}/tf32/rest"]),
        node("Sub", [f"{name}/tf32/large", f"{name}/tf32/rest"], [f"{name}/tf32"]),
    ]
