"""The error of each layer of a quantized graph: accumulated up to it, and by it alone."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any

from esp_ppq.core import PASSIVE_OPERATIONS
from esp_ppq.executor import TorchExecutor
from esp_ppq.IR.quantize import QuantableOperation

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from esp_ppq.IR import BaseGraph
    from samples import Samples

Table = dict[str, Any]


def errors_of(graph: BaseGraph, samples: Samples, count: int) -> list[Table]:
    """Signal to noise of each layer in dB, accumulated and alone, the worst first.

    10 log10(sum x² / sum (x - x')²) over `count` samples: x of the graph in float; x' at the
    layer's own output with all layers quantized, and at the network's outputs with it alone. Layers
    that only move values have no error of their own and are left out.
    """
    layers = [
        op
        for op in graph.operations.values()
        if isinstance(op, QuantableOperation) and op.type not in PASSIVE_OPERATIONS
    ]
    names = list(dict.fromkeys([*(op.outputs[0].name for op in layers), *graph.outputs]))
    power = {(op.name, alone): [0.0, 0.0] for op in layers for alone in (False, True)}
    executor = TorchExecutor(graph=graph, device="cpu")

    def values(sample: list[torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
        found = executor.forward(inputs=sample, output_names=names)
        return {name: value.double() for name, value in zip(names, found, strict=True)}

    def add(layer: str, alone: bool, exact: torch.Tensor, found: torch.Tensor) -> None:
        power[layer, alone][0] += float((exact**2).sum())
        power[layer, alone][1] += float(((exact - found) ** 2).sum())

    for i in range(min(len(samples), int(count))):
        sample = samples.tensors(i)
        quantized = values(sample, names)
        with in_float(graph):
            exact = values(sample, names)
            for op in layers:
                made = op.outputs[0].name
                add(op.name, False, exact[made], quantized[made])
                op.restore_quantize_state()
                for name, found in values(sample, list(graph.outputs)).items():
                    add(op.name, True, exact[name], found)
                op.dequantize()
    rows = [
        {
            "layer": op.name,
            "snr_db": decibel(*power[op.name, False]),
            "alone_snr_db": decibel(*power[op.name, True]),
        }
        for op in layers
    ]
    return sorted(rows, key=lambda row: (row["snr_db"] is None, row["snr_db"] or 0.0))


@contextlib.contextmanager
def in_float(graph: BaseGraph) -> Iterator[None]:
    """The graph without quantization, for a while."""
    quantized = [op for op in graph.operations.values() if isinstance(op, QuantableOperation)]
    for op in quantized:
        op.dequantize()
    try:
        yield
    finally:
        for op in quantized:
            op.restore_quantize_state()


def decibel(signal: float, noise: float) -> float | None:
    """Ten times the logarithm of the ratio; None where there is no noise."""
    return 10 * math.log10(max(signal, sys.float_info.min) / noise) if noise > 0 else None
