"""python quantize.py REQUEST.json ANSWER.json: esp-ppq's part of the compiler, in its own process.

The compiler starts it with hashes fixed and with a pipe on stdin that closes when the compiler is
gone. Here every other source of chance is fixed too, so the same request gives the same bytes.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import os
import random
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from device_graph import as_held, exact_biases, store, write
from esp_ppq import QuantizationSettingFactory
from esp_ppq.api import espdl_quantize_onnx, get_target_platform
from esp_ppq.core import TensorQuantizationConfig
from esp_ppq.log import NaiveLogger
from esp_ppq.quantization.optim import EspdlLUTFusionPass
from layers import errors_of
from refusals import BadInput, Unsupported, explained
from samples import Samples
from search import searched

if TYPE_CHECKING:
    from collections.abc import Callable

    from esp_ppq.IR import BaseGraph

Table = dict[str, Any]
Setting = Any  # esp-ppq's QuantizationSetting, which its modules do not type
KINDS = {"int8": "w8a8", "int16": "w16a16", "mixed": "w8a8"}
MIXED_SHARE = 0.2
# what esp-ppq's log says of every model
USUAL = ("does not bind", "Skip ", "recieving")


def main(asked: str, answered: str) -> None:
    """Answer one request in a file; errors go with their kind, their remedy and their trace."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the compiler decides, by closing stdin
    threading.Thread(target=end_with_parent, daemon=True).start()
    request = json.loads(Path(asked).read_text(encoding="utf-8"))
    # esp-ppq numbers its configurations from the time of day
    TensorQuantizationConfig._hash_seed = 1
    torch.set_num_threads(1)
    fix_chance(request["options"]["seed"])
    try:
        answer = quantize(request)
    except Exception as error:
        known = explained(error)
        trace = "".join(traceback.format_exception(error))
        answer = {"error": {"kind": "", "arguments": [repr(error)], "trace": trace}}
        if known is not None:
            answer["error"] |= {"kind": type(known).__name__, "arguments": [str(known), known.hint]}
    Path(answered).write_text(json.dumps(answer), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # a library would fill the end of the log with what it did not free


def end_with_parent() -> None:
    """End this process when the other end of its stdin closes."""
    while os.read(0, 1):
        continue
    os._exit(3)


def fix_chance(seed: int) -> None:
    """Seed all that draws numbers."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def quantize(request: Table) -> Table:
    """Quantize, measure, export into the folder `work`; answers effective options, warnings."""
    options, warnings = dict(request["options"]), watched_log()
    work, kept = Path(request["work"]), Path(request["kept"])
    samples = Samples(request["samples"], request["inputs"], options["calibration_steps"])
    options["calibration_steps"] = len(samples)
    setting = settings(request["precision"], options)
    if options["search"]:
        setting, options["found"] = searched(request, copied(request), setting, samples)
    if request["precision"] == "mixed":
        options["int16_layers"] = wide = chosen_layers(request, setting, samples)
        setting = with_int16(setting, wide, options["chip"])
    warnings.clear()  # so far they were about attempts
    if request["precision"] == "mixed" and not options["int16_layers"]:
        warnings.append("no layer's error is large enough for int16: all of it is int8")
    graph = quantized_graph(request, setting, samples)
    for name in request["outputs"]:
        if name not in graph.outputs:
            msg = f"output {name!r} is none of the quantized model's: {', '.join(graph.outputs)}"
            hint = "An output that is an input, or another output, passed on has no place: drop it."
            raise Unsupported(msg, hint)
    if request["precision"] == "mixed":
        check_names(options["int16_layers"], graph)
        # esp-ppq does so only where all of a network is int16; its tables are exact only then
        EspdlLUTFusionPass(setting.lut_optimization_setting.target_ops, 32).optimize(graph)
    first = samples.tensors(0)
    write(graph, first, options["mlperf_id"], work / "model.espdl", text=True)
    held = as_held(graph, first, work / "model.espdl")
    if held is not None:
        first = held
        write(graph, first, options["mlperf_id"], work / "model.espdl", text=True)
    for name in ("model.info", "model.json"):
        shutil.move(str(work / name), kept / name)
    store(graph, first, options["mlperf_id"], kept)
    layers = errors_of(graph, samples, options["error_samples"])
    (kept / "errors.json").write_text(json.dumps({"layers": layers}, indent=1), encoding="utf-8")
    return {"options": options, "warnings": list(dict.fromkeys(warnings))}


def settings(precision: str, options: Table) -> Setting:
    """esp-ppq's settings as the options have them."""
    setting = QuantizationSettingFactory.espdl_setting(16 if precision == "int16" else 8)
    setting.quantize_activation_setting.calib_algorithm = options["calibration_algorithm"]
    setting.equalization = options["equalization"]
    setting.equalization_setting.iterations = options["equalization_iterations"]
    setting.equalization_setting.value_threshold = options["equalization_threshold"]
    setting.bias_correct = options["bias_correction"]
    setting.tqt_optimization = options["tqt_steps"] > 0
    setting.tqt_optimization_setting.steps = options["tqt_steps"]
    setting.tqt_optimization_setting.lr = options["tqt_learning_rate"]
    return setting


def with_int16(setting: Setting, wide: list[str], chip: str) -> Setting:
    """The settings with these layers in int16, by their least and greatest values."""
    setting = copy.deepcopy(setting)
    for name in wide:
        setting.dispatching_table.append(name, get_target_platform(chip, "w16a16", debug=True))
        setting.quantize_activation_setting.calib_algorithm_per_layer[name] = "minmax"
        setting.quantize_parameter_setting.calib_algorithm_per_layer[name] = "minmax"
    return setting


def quantized_graph(request: Table, setting: Setting, samples: Samples) -> BaseGraph:
    """esp-ppq's quantized graph of the model."""
    fix_chance(request["options"]["seed"])
    graph = espdl_quantize_onnx(
        onnx_import_file=copied(request),
        espdl_export_file=str(Path(request["work"], "model.espdl")),
        calib_dataloader=samples,
        calib_steps=len(samples),
        input_shape=[value["shape"] for value in request["inputs"]],
        inputs=samples.tensors(0),
        target=request["options"]["chip"],
        quant_type=KINDS[request["precision"]],
        # sums of int16 products are exact in double only, and the chip's are exact
        debug=True,
        setting=copy.deepcopy(setting),
        device="cpu",
        error_report=False,
        skip_export=True,
        verbose=0,
    )
    exact_biases(graph)
    return graph


def copied(request: Table) -> str:
    """A fresh copy of the model: esp-ppq overwrites what it is given."""
    path = Path(request["work"], "copy.onnx")
    shutil.copyfile(Path(request["work"], "model.onnx"), path)
    return str(path)


def chosen_layers(request: Table, setting: Setting, samples: Samples) -> list[str]:
    """The layers to compute in int16: those given, else those that harm the outputs most alone.

    Of the layers whose signal to noise is below `mixed_min_snr_db` (all, where it is 0) the worst
    `mixed_layers`: a number, or a share of all layers where it is below 1. What follows a layer
    and is fused with it goes along.
    """
    options = request["options"]
    if options["int16_layers"]:
        return list(options["int16_layers"])
    graph = quantized_graph(request, setting, samples)
    rows = errors_of(graph, samples, options["error_samples"])
    rows = [row for row in rows if graph.operations[row["layer"]].is_computing_op]
    alone = {row["layer"]: row["alone_snr_db"] for row in rows if row["alone_snr_db"] is not None}
    limit, least = options["mixed_layers"], options["mixed_min_snr_db"]
    if not limit:
        limit = len(rows) if least else MIXED_SHARE
    count = math.ceil(limit * len(rows)) if limit < 1 else int(limit)
    worst = sorted(alone, key=lambda name: (alone[name], name))
    below = [name for name in worst if not least or alone[name] < least]
    wide = []
    for name in below[:count]:
        wide.append(name)
        after = graph.get_downstream_operations(graph.operations[name])
        if len(after) == 1 and after[0].type in {"Relu", "Clip"}:
            wide.append(after[0].name)
    return wide


def check_names(wide: list[str], graph: BaseGraph) -> None:
    """Refuse the name of a layer that is not there, or that a simplification took away."""
    for name in wide:
        if name not in graph.operations:
            near = difflib.get_close_matches(name, list(graph.operations), n=1, cutoff=0.0)
            msg = f"int16_layers: the quantized model has no node {name!r}"
            raise BadInput(msg, f"Did you mean {near[0]!r}?")


def watched_log() -> list[str]:
    """What esp-ppq's log will warn of, without what it says of every model."""
    said: list[str] = []

    def listening(plain: Callable[[NaiveLogger, str], None]) -> Callable[[NaiveLogger, str], None]:
        def kept(self: NaiveLogger, msg: str) -> None:
            if not any(word in msg for word in USUAL):
                said.append(" ".join(msg.split()))
            plain(self, msg)

        return kept

    NaiveLogger.warning = listening(NaiveLogger.warning)
    NaiveLogger.error = listening(NaiveLogger.error)
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
