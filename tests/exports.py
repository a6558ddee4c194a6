"""Exports in this process, as tests call them: of a module in memory, of an ONNX model."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
import torch

from edgedeploy.errors import EdgeDeployError, InputError
from edgedeploy.exporter import export_model, export_module
from edgedeploy.records import Model
from edgedeploy.workload import InputSpec, ModelSpec, Workload

ROW = InputSpec(shape=(1, 4), value_range=(-1.0, 1.0))


class Export:
    """Exports a module with inputs of rows of 4, or of these, into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        module: Any,
        *inputs: InputSpec,
        opset: int = 18,
        arrays: dict[str, np.ndarray] | None = None,
        samples: int = 4,
        **model: Any,
    ) -> Model:
        workload = Workload(
            name="net",
            model=ModelSpec(source="in memory", **model),
            inputs=inputs or ((ROW,) if arrays is None else ()),
            verify_samples=samples,
        )
        if isinstance(module, torch.nn.Module):
            module.eval()
        return export_module(module, workload, opset, self.folder, arrays)

    def refused(self, module: Any, *inputs: InputSpec, **options: Any) -> EdgeDeployError:
        """The error that such an export ends with."""
        with pytest.raises(InputError) as caught:
            self(module, *inputs, **options)
        assert caught.value.hint
        return caught.value


class ExportOnnx:
    """Exports an ONNX model as a workload does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, made: onnx.ModelProto | Path, *inputs: InputSpec, opset: int = 18, **fields: Any
    ) -> Model:
        given = made if isinstance(made, Path) else graphs.saved(made, self.folder / "given.onnx")
        model = ModelSpec(source=given.name)
        spec = {"name": "net", "model": model, "inputs": inputs, "verify_samples": 3, **fields}
        workload = Workload(folder=str(given.parent), **spec)
        output = self.folder / f"out-{len(list(self.folder.iterdir()))}"
        output.mkdir()
        answer = export_model(msgspec.to_builtins(workload), opset, str(output))
        assert str(given) in answer["seen"]["files"]
        return msgspec.convert(answer["model"], Model)


def reference(model: Model) -> dict[str, np.ndarray]:
    """The arrays of a model's reference file."""
    with np.load(model.reference) as arrays:
        return dict(arrays)


def outputs_of(model: Model, **inputs: np.ndarray) -> list[np.ndarray]:
    """What the exported model gives."""
    return graphs.run(Path(model.path), **inputs)
