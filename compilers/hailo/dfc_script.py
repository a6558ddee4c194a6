"""The model script: what is generated from workload and options, and the user's own lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dfc_faults import BadInput
from dfc_options import DEFAULT_LEVEL

if TYPE_CHECKING:
    Table = dict[str, Any]

HEAD = re.compile(r"^(?:[\w/.,\s]+=)?\s*([a-z_]\w*)\s*\(")
COMPILE = {
    "performance_param", "resources_param", "allocator_param", "context_switch_param", "place",
    "context", "ddr", "shortcut", "cascade", "output_mux", "network_group", "collapse", "defuse",
    "portal", "buffers", "feature_splitter", "shortcut_portal", "format_conversion",
}  # fmt: skip
# given once: a line of the user's own takes the place of the generated one
ONCE = {
    "set_seed": ("seed",),
    "model_optimization_flavor": (
        "optimization_level", "compression_level", "optimization_batch_size",
    ),
    "model_optimization_config(calibration": ("calibset_size", "optimization_batch_size"),
    "performance_param": ("performance", "fps", "batch_size", "optimize_for_power"),
    "resources_param": ("max_utilization",),
    "context_switch_param": ("context_switch",),
    "allocator_param": ("allocator_timeout_min",),
}  # fmt: skip
CHANGES_ENDS = {
    "nms_postprocess": "The boxes are decoded on the host, from the nodes behind the end nodes.",
    "logits_layer": "Keep it in the model: its result is compared with the model's.",
    "resize": "Resize in the application: the network's input has the model's size.",
    "transpose": "The input's layout comes from the model.",
}
OWN = "# lines of the user's own (option model_script)"


class Script(NamedTuple):
    """The commands by the step they belong to, and the text that people read."""

    optimize: list[str]
    compile: list[str]
    text: str

    def commands(self) -> str:
        """What the compiler gets: all commands, no comments."""
        return "\n".join([*self.optimize, *self.compile]) + "\n"


def normalization(spec: Table, channels: int) -> tuple[list[float], list[float]] | None:
    """Scale and offset by channel of one input: raw value = model value * scale + offset.

    The inverse of how data is prepared, ((raw / 255) * (high - low) + low - mean) / std with raw
    values of 0 to 255; they are the arguments std and mean of the chip's `normalization`. None
    where the model takes raw values.
    """
    low, high = spec.get("value_range") or (0.0, 1.0)
    found = []
    for key, default in (("mean", 0.0), ("std", 1.0)):
        values = [float(value) for value in spec.get(key) or [default]]
        values = values * channels if len(values) == 1 else values
        if len(values) != channels:
            msg = (
                f"input {spec['name']!r} has {channels} channels and {len(values)} values of {key}"
            )
            raise BadInput(msg, f"Give `{key}` in [[inputs]] once, or once a channel.")
        found.append(values)
    mean, std = found
    if high == low or 0.0 in std:
        msg = f"input {spec['name']!r}: value_range {low} to {high}, std {std} cannot be undone"
        raise BadInput(msg, "Neither the range's width nor a value of std may be 0.")
    factor = 255.0 / (high - low)
    scale = [number(value * factor) for value in std]
    offset = [number((value - low) * factor) for value in mean]
    if set(scale) == {1.0} and set(offset) == {0.0}:
        return None
    return scale, offset


def number(value: float) -> float:
    """A number as it is written: nine digits, which float32 tells apart."""
    return float(f"{value:.9g}") + 0.0


def generated(inputs: list[Table], chosen: Table, layers: Table, *, samples: int) -> Script:
    """The script of a network.

    `inputs` are its inputs as the artifact's sidecar has them, with the names of their layers;
    `layers` the layers chosen for other bits than 8, by precision mode. Raises `BadInput` for lines
    of the user's own that contradict what is generated.
    """
    own = statements(chosen["model_script"])
    check_own(own, inputs, chosen)
    optimize = [f"set_seed(seed={chosen['seed']})", *of_inputs(inputs)]
    batch = min(chosen["optimization_batch_size"], samples)
    flavor = [f"compression_level={chosen['compression_level']}", f"batch_size={batch}"]
    if chosen["optimization_level"] != "default":
        flavor.insert(0, f"optimization_level={chosen['optimization_level']}")
    optimize += [
        f"model_optimization_flavor({', '.join(flavor)})",
        f"model_optimization_config(calibration, batch_size={batch}, calibset_size={samples})",
    ]
    optimize += [
        f"quantization_param({{{', '.join(names)}}}, precision_mode={mode})"
        for mode, names in layers.items()
        if names
    ]
    replaced = [key for key in ONCE if any(is_command(line, key) for line in own)]
    optimize = [line for line in optimize if not any(is_command(line, key) for key in replaced)]
    compile_lines = [
        line for line in of_compiler(chosen) if not any(is_command(line, key) for key in replaced)
    ]
    text = ["# generated from the workload and the options: optimization", *optimize]
    if compile_lines:
        text += ["", "# generated from the options: compilation", *compile_lines]
    if chosen["model_script"].strip():
        text += ["", OWN, *chosen["model_script"].strip().splitlines()]
    late = [line for line in own if command(line) in COMPILE]
    return Script(
        optimize=optimize + [line for line in own if line not in late],
        compile=compile_lines + late,
        text="\n".join(text) + "\n",
    )


def of_inputs(inputs: list[Table]) -> list[str]:
    """Normalization and channel order; each command puts its layer right behind the input.

    So what the data meets first stands last.
    """
    lines = []
    for place, each in enumerate(inputs, 1):
        layer = f", {each['layer']}" if len(inputs) > 1 else ""
        if each["scale"] is not None:
            means = ", ".join(repr(value) for value in each["offset"])
            stds = ", ".join(repr(value) for value in each["scale"])
            lines.append(f"normalization{place} = normalization([{means}], [{stds}]{layer})")
    for place, each in enumerate(inputs, 1):
        if each["reverse_channels"]:
            # the compiler's one word for exchanging the first and the last channel, either way
            lines.append(f"input_conversion{place} = input_conversion({each['layer']}, bgr_to_rgb)")
    return lines


def of_compiler(chosen: Table) -> list[str]:
    """The commands of the compilation that the options ask for."""
    aims = []
    if chosen["performance"]:
        aims.append(f"compiler_optimization_level={chosen['performance']}")
    if chosen["fps"]:
        aims.append(f"fps={number(chosen['fps']):g}")
    if chosen["batch_size"] > 1:
        aims.append(f"optimize_for_batch={chosen['batch_size']}")
    if chosen["optimize_for_power"]:
        aims.append("optimize_for_power=True")
    lines = [f"performance_param({', '.join(aims)})"] if aims else []
    if chosen["max_utilization"]:
        lines.append(f"resources_param(max_utilization={chosen['max_utilization']})")
    if chosen["context_switch"]:
        lines.append(f"context_switch_param(mode={chosen['context_switch']})")
    if chosen["allocator_timeout_min"]:
        lines.append(f"allocator_param(timeout={chosen['allocator_timeout_min']}m)")
    return lines


def check_own(own: list[str], inputs: list[Table], chosen: Table) -> None:
    """Refuse lines that normalize again, change the ends of the network, or contradict options."""
    for line in own:
        word = command(line)
        if word == "normalization":
            generated_too = any(each["scale"] is not None for each in inputs)
            beside = "the generated one" if generated_too else "data in the model's own units"
            msg = f"double normalization: model_script has {line!r} beside {beside}"
            hint = (
                "Drop the line and say mean, std and value_range in [[inputs]]: the chip normalizes"
                " by them."
            )
            raise BadInput(msg, hint)
        if word == "input_conversion":
            msg = f"model_script has {line!r}, which changes what the network takes"
            raise BadInput(msg, "Set `input_color` to the order that the application delivers.")
        if word in CHANGES_ENDS:
            msg = f"model_script has {line!r}, which changes what the network takes or gives"
            raise BadInput(msg, CHANGES_ENDS[word])
    for key, options in ONCE.items():
        clashing = [name for name in options if name in chosen["given"]]
        if clashing and any(is_command(line, key) for line in own):
            msg = f"model_script has {key.partition('(')[0]}, and option {clashing[0]} is given too"
            raise BadInput(msg, "Say it in one place.")


def asked(script: Script, chosen: Table) -> Table:
    """Optimization and compression level that the script asks for, the user's own lines counted."""
    found = {key: chosen[key] for key in ("optimization_level", "compression_level")}
    if found["optimization_level"] == "default":
        found["optimization_level"] = DEFAULT_LEVEL
    for line in script.optimize:
        if is_command(line, "model_optimization_flavor"):
            found.update({k: int(v) for k, v in re.findall(r"(\w+_level)\s*=\s*(-?\d+)", line)})
    return found


def statements(text: str) -> list[str]:
    """The commands of a script, each in one line, comments left out."""
    found, open_text, depth = [], "", 0
    for raw in text.splitlines():
        line = without_comment(raw).strip()
        if not line:
            continue
        open_text = f"{open_text} {line}".strip()
        depth += line.count("(") - line.count(")")
        if depth <= 0:
            found.append(open_text)
            open_text, depth = "", 0
    return [*found, open_text] if open_text else found


def without_comment(line: str) -> str:
    """A line up to a # that stands outside quotes."""
    quote = ""
    for place, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return line[:place]
    return line


def command(line: str) -> str:
    """The name of a line's command; empty where it has none."""
    found = HEAD.match(line)
    return found.group(1) if found else ""


def is_command(line: str, key: str) -> bool:
    """Whether a line is the command `key`, or has `key` as command and first argument."""
    word, _, first = key.partition("(")
    if command(line) != word:
        return False
    return not first or re.search(rf"\(\s*{first}\b", line) is not None
