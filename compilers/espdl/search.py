"""esp-ppq's automatic search for settings, bounded and judged by the outputs' error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_ppq import QuantizationSettingFactory
from esp_ppq.autoquant import AutoQuantSearchSetting, espdl_auto_quantize_onnx
from esp_ppq.executor import TorchExecutor
from layers import decibel, in_float

if TYPE_CHECKING:
    import torch
    from esp_ppq.IR import BaseGraph
    from samples import Samples

Table = dict[str, Any]
Setting = Any  # esp-ppq's QuantizationSetting, which its modules do not type
METHODS = ["kl", "percentile", "mse", "minmax"]


def searched(
    request: Table, model: str, setting: Setting, samples: Samples
) -> tuple[Setting, Table]:
    """The best settings that esp-ppq's automatic search finds, and what they are.

    Judged by the signal to noise of the outputs on all calibration samples, in dB. The search is
    exhaustive over a grid of at most `search_candidates`: ways to calibrate, with and without
    equalisation, ways to align the inputs of additions and of concatenations. esp-ppq does so for
    models of one input.
    """
    options, work = request["options"], Path(request["work"])
    room = int(options["search_candidates"])

    def fitting(choices: list[Any]) -> list[Any]:
        """As many of the choices as the grid has room for."""
        nonlocal room
        taken = choices[: max(1, room)]
        room //= len(taken)
        return taken

    methods = fitting(METHODS)
    equalized = fitting([options["equalization"], not options["equalization"]])
    added = fitting(["Align to Output", "Align to Large"])
    joined = fitting(["Align to Output", "Align to Large"])
    search = AutoQuantSearchSetting(num_of_candidates=1, candidate_filter=None)
    search.run_dir, search.quant_setting = str(work / "search"), setting
    search.strategy_space |= {
        "weight_equalization": equalized,
        "bias_correction": [options["bias_correction"]],
        "tqt": [options["tqt_steps"] > 0],
        "horizontal_layer_split": [False],
        "mixed_precision": [False],
        "blockwise_reconstruction": [False],
    }
    space = search.param_space
    space["num_of_bits"]["value"] = [16 if request["precision"] == "int16" else 8]
    space["calib_algorithm"]["method"] = methods
    space["weight_equalization"] |= {
        "iterations": [options["equalization_iterations"]],
        "value_threshold": [options["equalization_threshold"]],
        "opt_level": [1],
    }
    space["bias_correction"] |= {"block_size": [4], "topk": [-1]}
    space["tqt"] |= {
        "lr": [options["tqt_learning_rate"]],
        "steps": [options["tqt_steps"]],
        "block_size": [4],
    }
    space["fusion_alignment"] |= {
        "elementwise_to": added,
        "concat_to": joined,
        "avgpooling_to": ["None"],
        "resize_to": ["Align to Output"],
    }
    truth: list[list[torch.Tensor]] = []

    def judged(graph: BaseGraph) -> tuple[float, Table]:
        executor = TorchExecutor(graph=graph, device="cpu")
        if not truth:
            with in_float(graph):
                truth.extend(executor.forward(inputs=sample) for sample in samples)
        signal = noise = 0.0
        for exact, sample in zip(truth, samples, strict=True):
            for x, y in zip(exact, executor.forward(inputs=sample), strict=True):
                signal += float((x.double() ** 2).sum())
                noise += float(((x.double() - y.double()) ** 2).sum())
        return decibel(signal, max(noise, sys.float_info.min)) or 0.0, {}

    (best,) = espdl_auto_quantize_onnx(
        onnx_import_file=model,
        espdl_export_file=str(work / "candidate.espdl"),
        calib_dataloader=samples,
        calib_steps=len(samples),
        input_shape=request["inputs"][0]["shape"][1:],
        evaluate_fn=judged,
        target=options["chip"],
        collate_fn=lambda batch: batch,
        setting=search,
        device="cpu",
    )
    text = Path(best["folder"], "quant_setting.json").read_text(encoding="utf-8")
    tried = len(json.loads(Path(search.run_dir, "summary.json").read_text(encoding="utf-8")))
    on = {key: best["params"][key] for key, value in best["strategy"].items() if value}
    found = {"snr_db": best["score"], "tried": tried, "settings": on}
    return QuantizationSettingFactory.from_json(text), found
