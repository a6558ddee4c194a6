"""The options of the compiler: their defaults, what they may be, and what excludes what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfc_faults import BadInput, Unsupported, require

if TYPE_CHECKING:
    Table = dict[str, Any]

# the runtime that each compiler makes files for: Hailo Model Zoo's compatibility table
RUNTIMES = {"3.30": "4.20.0", "3.31": "4.21.0", "3.32": "4.22.0", "3.33": "4.23.0"}
DEFAULT_LEVEL = 2
PRECISIONS = ("int8", "int16", "mixed")
# a tuple holds the choices, its first the default
OPTIONS: Table = {
    "hw_arch": ("hailo8", "hailo8l", "hailo8r"),
    "network": "",  # the model's file name where it is empty
    # 0 equalization, 1 bias correction, 2 fine-tuning, 3 and 4 AdaRound. The compiler's default is
    # 2, less where data or a GPU lacks; a level that is named is done, for hours without a GPU
    "optimization_level": ("default", -100, 0, 1, 2, 3, 4),
    "compression_level": 0,  # each level puts another 20 % of the weights into 4 bits
    "optimization_batch_size": 8,
    "calibset_size": 0,  # all samples where it is 0: the SDK's own default is 64
    "normalization": ("chip", "host"),
    "own_normalization": ("refuse", "keep"),  # a model that begins with one of its own
    "input_color": ("", "rgb", "bgr"),  # what the application delivers; the workload's where empty
    "a16_w16": [],
    "a8_w4": [],
    "performance": ("", "max"),
    "fps": 0.0,
    "batch_size": 1,
    "optimize_for_power": False,
    "max_utilization": 0.0,
    "context_switch": ("", "enabled", "disabled"),
    "allocator_timeout_min": 0,
    "seed": 0,
    "model_script": "",  # a path, or lines of the user's own
}
RANGES = {
    "compression_level": (0, 5),
    "optimization_batch_size": (1, 1024),
    "batch_size": (1, 1024),
    "max_utilization": (0.0, 1.0),
}


def checked(options: Table, precision: str) -> Table:
    """The options over the defaults; an unknown key, value or combination is refused.

    `given` among them are the names of those that differ from the default.
    """
    if precision not in PRECISIONS:
        msg = f"precision {precision!r}: Hailo-8 computes in whole numbers only"
        raise Unsupported(msg, f"Take {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}.")
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in OPTIONS.items()}
    require(options, OPTIONS, "option")
    for key, value in options.items():
        fix = OPTIONS[key]
        if isinstance(fix, tuple):
            require([value], fix, f"{key}:")
        elif type(value) is not type(fix) and (type(value), type(fix)) != (int, float):
            msg = f"option {key} is {value!r}, expected a value like {fix!r}"
            raise BadInput(msg, "Correct its type.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = RANGES.get(key, (0, None))
            if value < low or (high is not None and value > high):
                reach = f"{low} to {high}" if high is not None else f"{low} or more"
                msg = f"option {key} is {value!r}, expected {reach}"
                raise BadInput(msg, "Correct its value.")
    defaults = dict(chosen)
    chosen.update(options)
    chosen["given"] = sorted(key for key in options if chosen[key] != defaults[key])
    of_layers(chosen, precision)
    if chosen["performance"] == "max" and chosen["max_utilization"]:
        msg = 'performance = "max" sets the utilization itself: max_utilization excludes it'
        raise BadInput(msg, "Leave one of them out.")
    chosen["model_script"] = own_script(chosen["model_script"])
    return chosen


def of_layers(chosen: Table, precision: str) -> None:
    """Refuse lists of layers that say nothing, or that contradict each other or the precision."""
    for key in ("a16_w16", "a8_w4"):
        if not all(isinstance(name, str) and name for name in chosen[key]):
            msg = f"option {key} is {chosen[key]!r}, expected names of layers or of ONNX nodes"
            raise BadInput(msg, "Write it as a list of strings.")
    both = set(chosen["a16_w16"]) & set(chosen["a8_w4"])
    if both:
        msg = f"layer {sorted(both)[0]!r} is asked for in 16 bits and in 4"
        raise BadInput(msg, "Name it in a16_w16 or in a8_w4.")
    if precision == "int16" and (chosen["a16_w16"] or chosen["a8_w4"]):
        msg = "options a16_w16 and a8_w4 choose layers, and the precision int16 takes all of them"
        raise BadInput(msg, "Take precision mixed, or leave the options out.")
    if precision == "mixed" and not (chosen["a16_w16"] or chosen["a8_w4"]):
        msg = "precision mixed: neither a16_w16 nor a8_w4 names a layer"
        raise BadInput(msg, "Name layers in one of these options, or take int8.")


def own_script(given: str) -> str:
    """The lines of the user's own: the option itself, or what the file of that name holds."""
    if not given or "(" in given or "\n" in given:
        return given
    path = Path(given).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"model_script {given!r} cannot be read: {error}"
        raise BadInput(msg, "Give the path of an .alls file, or its lines.") from error
