"""Small networks quantized by esp-ppq, and what its simulator says: python engine_nets.py FOLDER.

For each network a .espdl and a .npz with what the device reads and must answer: `in/I/NAME` and
`out/I/NAME` as whole numbers (float32 where an output is), in the order of the exported model.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TESTS = 5


class Net(nn.Module):
    """Layers by name and what is done with them."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.run = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self.layers, *inputs)


class Case(NamedTuple):
    build: Callable[[], Net]
    shapes: tuple[tuple[int, ...], ...]
    bits: str = "w8a8"
    wide_layers: tuple[str, ...] = ()
    # how far answers may lie apart: the simulator sums products of 16 bits in float32
    apart: int = 0


Layers = nn.ModuleDict
conv = nn.Conv2d


def mobile(m: Layers, x: Tensor) -> Tensor:
    y = functional.relu6(m["stem"](x))
    z = functional.relu6(m["wide"](y))
    y = y + m["narrow"](functional.relu6(m["depth"](z)))
    return m["end"](y.mean((2, 3)))


def mobile_net() -> Net:
    layers = {
        "stem": conv(3, 18, 3, 2, 1),
        "wide": conv(18, 40, 1),
        "depth": conv(40, 40, 3, 1, 1, groups=40),
        "narrow": conv(40, 18, 1, bias=False),
        "end": nn.Linear(18, 11),
    }
    return Net(mobile, **layers)


def windows(m: Layers, x: Tensor) -> Tensor:
    y = m["a"](functional.pad(x, (0, 1, 2, 1)))
    y = torch.relu(m["c"](functional.relu(m["b"](y))))
    return m["e"](m["d"](y))


def windows_net() -> Net:
    layers = {
        "a": conv(5, 33, 3, 2),
        "b": conv(33, 33, 5, 1, 2, groups=33),
        "c": conv(33, 7, (3, 1), 1, (1, 0)),
        "d": conv(7, 7, 3, 1, 2, dilation=2, groups=7),
        "e": conv(7, 19, 3, 1, 2, dilation=2),
    }
    return Net(windows, **layers)


def line_net() -> Net:
    layers = {
        "a": nn.Conv1d(6, 24, 5, 2, 2),
        "b": nn.Conv1d(24, 24, 3, 1, 1, groups=24),
        "c": nn.Conv1d(24, 10, 1),
    }
    return Net(
        lambda m, x: functional.max_pool1d(m["c"](torch.relu(m["b"](m["a"](x)))), 2), **layers
    )


def curves(m: Layers, x: Tensor) -> Tensor:
    y = m["a"](x)
    made = [functional.hardswish(y), torch.tanh(y), functional.leaky_relu(y, 0.1), torch.sigmoid(y)]
    made += [functional.silu(y), torch.clamp(y, -0.7, 0.4), m["one"](y), m["each"](y)]
    return torch.cat(made, 1)


def curves_net() -> Net:
    return Net(curves, a=conv(4, 9, 1), one=nn.PReLU(), each=nn.PReLU(9))


def sixteen(m: Layers, x: Tensor) -> Tensor:
    y = torch.tanh(m["a"](x)) + functional.hardswish(m["b"](x))
    y = functional.relu6(m["c"](torch.relu(y)))
    return functional.avg_pool2d(m["d"](y), 3, 2, 1)


def sixteen_net() -> Net:
    layers = {
        "a": conv(3, 10, 3, 1, 1),
        "b": conv(3, 10, 1),
        "c": conv(10, 10, 3, 1, 1, groups=10),
        "d": conv(10, 18, 1),
    }
    return Net(sixteen, **layers)


def pools(m: Layers, x: Tensor) -> tuple[Tensor, ...]:
    y = m["a"](x)
    return (
        functional.avg_pool2d(y, 3, 2, 1),
        functional.max_pool2d(y, 3, 2, 1),
        functional.avg_pool2d(y, 2, 2, ceil_mode=True),
        functional.max_pool2d(y, 3, 2, ceil_mode=True),
        functional.avg_pool2d(y, (5, 7), 1),
        functional.adaptive_max_pool2d(y, 1),
        functional.adaptive_avg_pool2d(y, 1),
        y.mean(1, keepdim=True),
        y.mean((1, 3)),
    )


def places(m: Layers, x: Tensor) -> tuple[Tensor, ...]:
    y = m["a"](x)
    first, second = torch.split(y, 8, 1)
    shuffled = y.view(1, 2, 8, 6, 5).transpose(1, 2).reshape(1, 16, 6, 5)
    return (
        m["b"](functional.pixel_shuffle(y, 2)),
        functional.interpolate(first, scale_factor=2, mode="nearest"),
        functional.interpolate(second, scale_factor=2, mode="bilinear"),
        functional.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)),
        m["c"](shuffled),
        y.permute(0, 2, 3, 1).reshape(1, -1, 16),
    )


def up_net() -> Net:
    layers = {
        "a": nn.ConvTranspose2d(8, 12, 3, 2, 1, 1),
        "b": nn.ConvTranspose2d(12, 8, 4, 2, 1),
        "c": nn.ConvTranspose2d(8, 4, 2, 2),
    }
    return Net(lambda m, x: m["c"](torch.relu(m["b"](m["a"](x)))), **layers)


def arithmetic(m: Layers, x: Tensor, y: Tensor) -> Tensor:
    a, b = m["a"](x), m["b"](y)
    gate = torch.sigmoid(m["gate"](functional.adaptive_avg_pool2d(a, 1)))
    return torch.relu((a * gate - b) * 0.3 + x) * b


def arithmetic_net() -> Net:
    return Net(arithmetic, a=conv(8, 8, 3, 1, 1), b=conv(8, 8, 1), gate=conv(8, 8, 1))


def odds_net() -> Net:
    return Net(
        lambda m, x: torch.softmax(m["b"](torch.relu(m["a"](x))), -1),
        a=nn.Linear(24, 20),
        b=nn.Linear(20, 9, bias=False),
    )


CASES = {
    "mobile": Case(mobile_net, ((1, 3, 16, 20),)),
    "windows": Case(windows_net, ((1, 5, 19, 17),)),
    "line": Case(line_net, ((1, 6, 44),)),
    "curves": Case(curves_net, ((1, 4, 5, 9),)),
    "pools": Case(lambda: Net(pools, a=conv(8, 8, 1)), ((1, 8, 13, 11),)),
    "places": Case(
        lambda: Net(places, a=conv(7, 16, 1), b=conv(4, 8, 3, 1, 1), c=conv(16, 8, 1)),
        ((1, 7, 6, 5),),
    ),
    "up": Case(up_net, ((1, 8, 6, 5),)),
    "arithmetic": Case(arithmetic_net, ((1, 8, 6, 5), (1, 8, 6, 5))),
    "odds": Case(odds_net, ((1, 7, 24),)),
    "sixteen": Case(sixteen_net, ((1, 3, 9, 7),), "w16a16"),
    "narrow_weights": Case(sixteen_net, ((1, 3, 9, 7),), "w8a16", apart=1),
    "mixed": Case(mobile_net, ((1, 3, 16, 20),), wide_layers=("/layers/wide/Conv", "/Add")),
}


def scale_of(config: Any) -> float:
    """What one unit of a quantized tensor is worth."""
    return float(config.scale.flatten()[0])


def quantized(graph: Any, name: str) -> tuple[float, int]:
    """An input's unit and bits."""
    variable = graph.inputs[name]
    operation = variable.dest_ops[0]
    config = operation.input_quant_config[operation.inputs.index(variable)]
    return scale_of(config), config.num_of_bits


def answer(graph: Any, name: str, value: Tensor) -> np.ndarray[Any, Any]:
    """An output as the device holds it."""
    variable = graph.outputs[name]
    operation = variable.source_op
    config = operation.output_quant_config[operation.outputs.index(variable)]
    if config.state.name == "FP32":
        return value.numpy().astype(np.float32)
    whole = value.numpy().astype(np.float64) / scale_of(config)
    assert np.array_equal(whole, np.round(whole))
    return whole.astype(np.int8 if config.num_of_bits == 8 else np.int16)


def make(folder: Path, name: str, case: Case) -> None:
    from esp_ppq import QuantizationSettingFactory
    from esp_ppq.api import espdl_quantize_onnx, get_target_platform
    from esp_ppq.executor import TorchExecutor

    torch.manual_seed(0)
    network = case.build().eval()
    draw = torch.Generator().manual_seed(1)
    samples = [
        [torch.randn(*shape, generator=draw) for shape in case.shapes] for _ in range(4 + TESTS)
    ]
    exported = str(folder / f"{name}.onnx")
    torch.onnx.export(network, tuple(samples[0]), exported, opset_version=18, dynamo=False)
    wide = case.bits != "w8a8"
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=16 if wide else 8)
    # how ranges are found is no matter here; this is the quickest way
    setting.quantize_activation_setting.calib_algorithm = "minmax"
    for layer in case.wide_layers:
        setting.dispatching_table.append(layer, get_target_platform("esp32s3", 16))
    calibration: list[Any] = [one if len(one) > 1 else one[0] for one in samples[:4]]
    graph = espdl_quantize_onnx(
        onnx_import_file=exported,
        espdl_export_file=str(folder / f"{name}.espdl"),
        calib_dataloader=calibration,
        calib_steps=len(calibration),
        input_shape=[list(shape) for shape in case.shapes],
        inputs=samples[0],
        target="esp32s3",
        quant_type=case.bits,
        # the sums of 16-bit products in float64: float32 cannot hold them, the device can
        debug=case.bits == "w16a16",
        setting=setting,
        error_report=False,
        export_test_values=True,
        verbose=0,
        device="cpu",
        collate_fn=lambda batch: batch,
        metadata_props={"edgedeploy": "{}", "mlperf": "ic01"},
    )
    executor = TorchExecutor(graph=graph, device="cpu")
    kept: dict[str, np.ndarray[Any, Any]] = {}
    for index, sample in enumerate(samples[4:]):
        given = {}
        for key, value in zip(graph.inputs, sample, strict=True):
            unit, bits = quantized(graph, key)
            most = 2.0 ** (bits - 1)
            whole = torch.clamp(torch.floor(value / unit + 0.5), -most, most - 1)
            given[key] = whole * unit
            kept[f"in/{index}/{key}"] = whole.numpy().astype(np.int8 if bits == 8 else np.int16)
        for key, value in zip(graph.outputs, executor.forward(inputs=given), strict=True):
            kept[f"out/{index}/{key}"] = answer(graph, key, value)
    np.savez(folder / f"{name}.npz", **kept)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case_name, chosen in CASES.items():
        make(Path(sys.argv[1]), case_name, chosen)
