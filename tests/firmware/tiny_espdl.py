"""A small convolutional network, quantized by esp-ppq: python tiny_espdl.py FOLDER."""

import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Write tiny.espdl (1 x 8 x 8 x 1 to 10, with a test vector) into a folder."""
    import torch
    from esp_ppq.api import espdl_quantize_onnx
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip
    images = torch.randn(8, 1, 8, 8)
    exported = str(folder / "tiny.onnx")
    names = {"input_names": ["image"], "output_names": ["scores"]}
    torch.onnx.export(network, (images[:1],), exported, dynamo=False, opset_version=13, **names)
    espdl_quantize_onnx(
        onnx_import_file=exported,
        espdl_export_file=str(folder / "tiny.espdl"),
        calib_dataloader=list(images.split(1)),
        calib_steps=8,
        input_shape=[1, 1, 8, 8],
        inputs=[images[:1]],
        target="esp32s3",
        num_of_bits=8,
        error_report=False,
        export_test_values=True,
        verbose=0,
        device="cpu",
        metadata_props={"mlperf": "ic01", "mlperf_input": "u8 128 0.0234375"},
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
