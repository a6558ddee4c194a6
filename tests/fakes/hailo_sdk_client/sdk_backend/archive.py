"""The archive of a state, and the stand-in of a HEF: the same content gives the same bytes."""

import io
import json
import zipfile

from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import HailoArchiveException

EPOCH = (1980, 1, 1, 0, 0, 0)
HEF_VERSION = 3
SDK_VERSION = "3.33.0"


def packed(files):
    """A zip of named bytes or JSON records, without a trace of when it was made."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, given in files.items():
            content = given
            if not isinstance(given, bytes):
                content = json.dumps(given, indent=1, sort_keys=True).encode()
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return held.getvalue()


def unpacked(path):
    """The files of an archive of ours by name, JSON read; raises HailoArchiveException."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        message = f"{path} is no HAR"
        raise HailoArchiveException(message) from error
    if "har.json" not in files:
        message = f"{path} is no HAR: har.json is not in it"
        raise HailoArchiveException(message)
    return {
        name: json.loads(content) if name.endswith(".json") else content
        for name, content in files.items()
    }


def hef(network, hw_arch, model, scales, changes):
    """The bytes of a HEF stand-in: `model` takes and gives what passes the wire, as float32.

    `changes` are more fields of hef.json, `fps` among them, or other values of these. `scales`
    gives the grid of each input and output by layer name: `scale` and `zero_point` of an end, as
    the runtime's quantization info has them. `order` tells a vector from a 1x1 image.
    """

    def end(name):
        layer = network.layer(name)
        shape, order = list(layer.output_shape), "NHWC"
        if len(shape) == 1:
            shape, order = [1, 1, *shape], "NC"
        grid = scales.get(name, {"scale": 1.0, "zero_point": 0, "bits": 8})
        kind = "uint8" if grid["bits"] == 8 else "uint16"
        ends = {"name": name, "onnx": name, "shape": shape, "order": order, "dtype": kind}
        return ends | {"scale": grid["scale"], "zero_point": grid["zero_point"]}

    record = {
        "standin": True,
        "hef_version": HEF_VERSION,
        "sdk_version": SDK_VERSION,
        "hw_arch": hw_arch,
        "network_group": network.name,
        "inputs": [end(name) for name in network.inputs],
        "outputs": [end(name) for name in network.outputs],
    } | changes
    return packed({"hef.json": record, "model.onnx": model.SerializeToString()})


def hef_record(path):
    """What hef.json in a HEF stand-in says."""
    with zipfile.ZipFile(path) as held:
        return json.loads(held.read("hef.json"))
