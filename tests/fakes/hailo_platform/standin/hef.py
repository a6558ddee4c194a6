"""A HEF of the stand-in: a zip with `hef.json` and the ONNX model that computes for the chip."""

import io
import json
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

from hailo_platform.standin.status import check, fail, log

HEF_VERSION = 3
ARCHITECTURES = {"hailo8": "HAILO8", "hailo8l": "HAILO8L"}
BYTES = {"uint8": 1, "uint16": 2, "float32": 4}


def read(path):
    """The HEF in a file. Raises the status of what is wrong with it."""
    file = Path(path)
    if not file.is_file():
        fail("HAILO_OPEN_FILE_FAILURE", f"Failed to open file {path} with error: 2")
    return parse(file.read_bytes())


def parse(content):
    """The HEF in these bytes, as `name`, `network`, `architecture`, `inputs`, `outputs`, `model`.

    A stream has `name`, `shape` (H, W, C), `order`, `dtype`, `scale`, `zero_point`, `onnx`.
    """
    check(len(content) >= 32, "HAILO_HEF_FILE_CORRUPTED", "Invalid HEF header")
    if content[:4] != b"PK\x03\x04":
        # a real header holds its version in these bytes: so are other files told apart
        fail(
            "HAILO_HEF_NOT_SUPPORTED",
            f"Unsupported hef version {struct.unpack('>I', content[4:8])[0]}",
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            described = json.loads(archive.read("hef.json"))
            model = archive.read("model.onnx")
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        log("error", f"stand-in: {error}")
        fail("HAILO_HEF_FILE_CORRUPTED", "CHECK failed - HEF crc does not match")
    if described["hef_version"] > HEF_VERSION:
        fail("HAILO_HEF_NOT_SUPPORTED", f"Unsupported hef version {described['hef_version']}")
    if not described.get("standin") or described["hw_arch"] not in ARCHITECTURES:
        fail("HAILO_INVALID_HEF", f"stand-in: not a HEF of a stand-in for {[*ARCHITECTURES]}")
    group = described["network_group"]
    return SimpleNamespace(
        name=group,
        network=f"{group}/{group}",
        architecture=ARCHITECTURES[described["hw_arch"]],
        inputs=[stream(one, "NHWC") for one in described["inputs"]],
        outputs=[stream(one, flat(one["shape"])) for one in described["outputs"]],
        fps=described.get("fps", 0.0),
        sdk_version=described.get("sdk_version", ""),
        model=model,
    )


def flat(shape):
    """A fully connected layer's output is a vector on the host; all else has three axes."""
    return "NC" if tuple(shape[:2]) == (1, 1) else "NHWC"


def stream(said, order):
    """One input or output as the library's infos have it."""
    return SimpleNamespace(
        name=said["name"],
        onnx=said["onnx"],
        shape=tuple(said["shape"]),
        order=said.get("order", order),
        dtype=said["dtype"],
        scale=said.get("scale"),
        zero_point=said.get("zero_point", 0.0),
    )


def host_shape(one):
    """The shape of a stream's array on the host: (H, W, C), or (C,) of a vector."""
    return one.shape[2:] if one.order == "NC" else one.shape


def elements(one):
    """How many values a frame of this stream has."""
    height, width, features = one.shape
    return height * width * features


def shape_text(one):
    """As `parse-hef` prints it: UINT8, NHWC(224x224x3)."""
    sizes = "x".join(str(size) for size in host_shape(one))
    return f"{one.dtype.upper()}, {one.order}({sizes})"


def check_chip(hef, chip):
    """Refuse a HEF for another chip; a bigger chip runs a smaller one's, slower."""
    if hef.architecture == chip.architecture:
        return
    if (hef.architecture, chip.architecture) == ("HAILO8L", "HAILO8"):
        log(
            "warning",
            "HEF was compiled for Hailo8L device, while the device itself is Hailo8."
            " This will result in lower performance.",
        )
        return
    fail(
        "HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE",
        "HEF format is not compatible with device."
        f" Device arch: {chip.architecture}, HEF arch: {hef.architecture}",
    )
