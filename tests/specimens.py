"""Rows, windows and series made up for tests: 1 s idle, 2 s latency with 1000 inferences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedeploy.records import (
    Accuracy,
    Artifact,
    Figure,
    Instability,
    Measurement,
    Model,
    Plan,
    Row,
    Series,
    Verdict,
    Window,
)

S = 1_000_000_000
IDLE = Window(phase="idle", start_ns=1 * S, end_ns=2 * S, count=0)
LATENCY = Window(phase="latency", start_ns=3 * S, end_ns=5 * S, count=1000)


def latencies(
    median_s: float, *, n: int = 1000, spread: float = 0.01, seed: int = 0
) -> NDArray[np.float64]:
    """Log-normal latencies around `median_s`."""
    return median_s * np.exp(np.random.default_rng(seed).normal(0, spread, n))


def measurement(**changes: Any) -> Measurement:
    """A measurement with an idle and a latency window and no series."""
    fields: dict[str, Any] = {
        "plan": Plan(),
        "source": "measured",
        "windows": (IDLE, LATENCY),
        "series": (),
        "series_file": "series.npz",
        "options": {"threads": 1},
        "facts": {"cpu": "a CPU", "governor": "performance"},
        "tools": {"runtime": "1.0"},
    }
    return Measurement(**{**fields, **changes})


def row(measured: Measurement | None = None, **changes: Any) -> Row:
    """An ok row of target host, fp32."""
    fields: dict[str, Any] = {
        "run": "a",
        "workload": "digits",
        "target": "host",
        "board": "a board",
        "precision": "fp32",
        "status": "ok",
        "artifact": artifact(),
        "measurement": measured or measurement(),
    }
    return Row(**{**fields, **changes})


def artifact(**changes: Any) -> Artifact:
    """A compiled file of 1,140,000 bytes."""
    fields: dict[str, Any] = {
        "path": "model.onnx",
        "format": "onnx",
        "sha256": "a" * 64,
        "size_bytes": 1_140_000,
        "precision": "fp32",
        "model_sha256": "b" * 64,
        "duration_s": 1.5,
    }
    return Artifact(**{**fields, **changes})


def model(**changes: Any) -> Model:
    """An exported model of 2,236,682 parameters."""
    fields: dict[str, Any] = {
        "path": "model.onnx",
        "raw_path": "raw.onnx",
        "sha256": "b" * 64,
        "inputs": (),
        "outputs": (),
        "opset": 18,
        "requested_opset": 18,
        "exporter": "dynamo",
        "parameters": 2_236_682,
        "macs": 300_000_000,
        "reference": "reference.npz",
        "reference_source": "seeded",
    }
    return Model(**{**fields, **changes})


def top1(value: float | None, *, count: int = 10_000, **changes: Any) -> Accuracy:
    """Top-1 accuracy over `count` images."""
    fields: dict[str, Any] = {
        "metric": "top1",
        "value": value,
        "unit": "1",
        "count": count,
        "source": "measured",
        "data": "test images",
    }
    return Accuracy(**{**fields, **changes})


def unstable(verdict: Verdict, message: str = "found 1, limit 0: run again") -> Instability:
    """A verdict."""
    return Instability(verdict=verdict, message=message)


def channel(key: str, quantity: str, **changes: Any) -> Series:
    """A total channel of instrument `meter` on the host's clock."""
    fields: dict[str, Any] = {
        "key": key,
        "quantity": quantity,
        "unit": {"power": "W", "energy": "J"}[quantity],
        "clock": "host-monotonic",
        "instrument": "meter",
        "scope": key,
        "count": 0,
        "total": True,
    }
    return Series(**{**fields, **changes})


def joules(value: float | None) -> dict[str, Figure]:
    """The figure of energy an inference."""
    had = value is not None
    return {
        "energy_per_inference_j": Figure(
            value=value,
            unit="J",
            source="measured" if had else None,
            reason=None if had else "no instrument read power",
        )
    }
