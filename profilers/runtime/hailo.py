# /// script
# requires-python = ">=3.8"
# dependencies = ["numpy>=1.20"]
# ///
"""A Hailo-8 by HailoRT's InferModel: inferences, several at once, and the vendor's own figures.

HailoRT's Python package hailo_platform comes with HailoRT, not from an index. What is timed is
`ConfiguredInferModel.run`: from the input as the chip takes it, in host memory, over PCIe and back
to float32 outputs in host memory, which the library scales from the chip's integers (and float32
inputs to them). Bringing the model's input into the chip's layout, and its outputs back, is not.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().with_suffix("")))
import hailort_chip
import hailort_cli
import hailort_versions
from hailort_faults import BadInput, Missing, Unsupported, explained
from hailort_models import Chip, Model
from hailort_tensors import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Table = dict[str, Any]
    Calls = Callable[[], object]

__all__ = ["BadInput", "Missing", "Unsupported"]
# a tuple holds the choices, its first the default. `batch_size` is how many inferences the chip
# takes in a row where so many wait; `device_id` as `hailortcli scan` has it, the first where empty
OPTIONS: Table = {
    "batch_size": 1,
    "power_mode": ("performance", "ultra_performance"),
    "timeout_ms": 10_000,
    "device_id": "",
}
TOOLS = {
    "hailort": "hailort",
    "driver": "hailo-driver",
    "firmware": "hailo-firmware",
    "hailortcli": "hailortcli",
}
SCOPE = "wire input to float32 output, both in host memory: transfers, chip and output scaling"
state: Table = {}


def probe() -> Table:
    """The version of HailoRT's Python package, which is imported after this; no chip is asked."""
    return {"tools": {"hailort": hailort_versions.library().__version__}}


def load(artifact: str, options: Table) -> Table:
    """Check that all versions fit, take the chip, and load a HEF; replaces those before.

    `artifact` is model.hef with model.json beside it, or their folder. Options: `batch_size` (1),
    `power_mode` ("performance"), `timeout_ms` of one inference (10000), `device_id` (the first).
    Raises `Missing` (package, driver, chip, permission, a chip in use), `BadInput` (versions that
    do not fit, a HEF that is damaged, too new or for another chip), `Unsupported`.
    """
    chosen = checked(options)
    close()
    manifest = Manifest(artifact)
    platform = hailort_versions.library()
    found: dict[str, str | None] = {
        "hailort": platform.__version__,
        "driver": hailort_versions.driver(),
        "hailortcli": hailort_cli.version(),
    }
    hailort_versions.check_installed(found)
    name = hailort_chip.find(platform, chosen["device_id"])
    identity = hailort_chip.identity(platform, name, found)
    hailort_versions.check_artifact(platform.__version__, manifest.compiler, manifest.runtime)
    told = {"versions": hailort_versions.listed(found), "chip": identity["architecture"]}
    chip = state["chip"] = Chip(platform, chosen["device_id"], told)
    try:
        if chip.chip != name:  # the first one is in use, another was free
            identity = hailort_chip.identity(platform, chip.chip, found)
            told["chip"] = identity["architecture"]
        note = hailort_chip.check_fits(manifest.hw_arch, identity["architecture"])
        model = chip.add(manifest, chosen)
    except BaseException:
        close()
        raise
    tools = {TOOLS[name]: version for name, version in found.items() if version}
    state["tools"] = {**tools, "hailo-dataflow-compiler": manifest.compiler}
    state["identity"] = identity
    state["notes"] = [note] if note else []
    return answered(model)


def run(inputs: dict[str, Array]) -> dict[str, Array]:
    """One inference: arrays by the model's names in and out. Raises `BadInput`, `TimedOut`."""
    return first().run(inputs)


def run_many(samples: dict[str, Array]) -> dict[str, Array]:
    """Inferences on arrays (N, *shape) to arrays (N, *shape), as many at once as HailoRT queues."""
    return first().run_many(samples)


def bind(inputs: dict[str, Array]) -> Calls:
    """`ConfiguredInferModel.run` on bindings made once: input on the wire to float32 outputs."""
    with explained("binding inputs", current().told):
        return first().slot(inputs).run


def bind_async(inputs: dict[str, Array]) -> Callable[[], Calls]:
    """A start of `run_async` on bindings of its own, answering what waits for its end.

    Bind once for each inference in flight; a start waits where HailoRT's queue is full.
    """
    with explained("binding inputs", current().told):
        return first().slot(inputs).start


def beside(artifact: str, options: Table) -> Table:
    """Load one more model onto the same chip, which takes turns between them; answers as `load`.

    HailoRT's scheduler goes round among the models that have inferences waiting.
    """
    chip = current()
    chosen = checked(options)
    if chosen["device_id"] not in {"", chip.chip}:
        msg = f"device_id {chosen['device_id']!r} is not {chip.chip!r}, where the first model is"
        raise BadInput(msg, "Leave it out: models beside each other share a chip.")
    manifest = Manifest(artifact)
    library = chip.platform.__version__
    hailort_versions.check_artifact(library, manifest.compiler, manifest.runtime)
    note = hailort_chip.check_fits(manifest.hw_arch, state["identity"]["architecture"])
    model = chip.add(manifest, chosen)
    state["notes"] += [f"{manifest.network}: {note}"] if note else []
    return answered(model)


def bind_beside(place: int, inputs: dict[str, Array]) -> Calls:
    """As `bind`, on the model of the `place`-th call of `beside`, from 0 on."""
    models = current().models[1:]
    if not 0 <= place < len(models):
        msg = f"there is no model {place} beside the first, {len(models)} were loaded beside it"
        raise BadInput(msg, "Call beside(artifact, options) first.")
    with explained("binding inputs", current().told):
        return models[place].slot(inputs).run


def facts() -> Table:
    """Versions and, with a model loaded, the chip: identity, temperatures, clock, throttling.

    `throttled` says by how much the chip's clock is below what it was when the model was loaded.
    """
    if not state:
        tools = probe()["tools"]
        return {"tools": tools, **virtual(tools)}
    chip, identity = current(), state["identity"]
    now = hailort_chip.sensors(chip.platform, chip.chip)
    before_hz, now_hz = identity["chip_clock_hz"], now.get("chip_clock_hz")
    if now_hz is not None and now_hz < before_hz:
        now["throttled"] = [
            f"its core's clock is {now_hz / 1e6:g} MHz, {before_hz / 1e6:g} MHz when loaded"
        ]
    models = [model.manifest.network for model in chip.models]
    return {
        **identity,
        "device": identity["product_name"] or identity["board_name"] or identity["architecture"],
        **now,
        "tools": state["tools"],
        "latency_scope": SCOPE,
        "scheduler": "round robin",
        "models": models,
        "async_queue_size": first().queue,
        "notes": list(state["notes"]),
        **virtual(state["tools"]),
    }


def vendor_figures(seconds: float) -> Table:
    """What only `hailortcli` tells: the chip's own latency and rate, without host and transfers.

    Three runs of the tool share the seconds, at least one each. The chip is let go for them and
    taken up again, so what was bound before must be bound again.
    """
    chip = current()
    tool = f"hailortcli {hailort_cli.version()}"
    hailort_cli.tool()
    model = first()
    each_s = max(1, round(seconds / 3))
    batch = ["--batch-size", str(model.options["batch_size"])]
    mode = ["--power-mode", model.options["power_mode"]]
    wanted = (
        ("latency_chip_s", "s", "hw_latency", 1e-3, ["--measure-latency"]),
        ("throughput_chip_hz", "Hz", "fps", 1.0, ["-m", "hw_only", *batch]),
        ("throughput_streaming_hz", "Hz", "fps", 1.0, ["-m", "streaming", *batch]),
    )
    hef, network = model.manifest.hef, model.manifest.network
    notes: list[str] = []

    def measured() -> list[Table]:
        figures = []
        for name, unit, column, factor, arguments in wanted:
            row = hailort_cli.measured(hef, network, each_s, chip.chip, [*arguments, *mode])
            value = row[column]
            if value is None:
                notes.append(f"{tool} told no {column} (run {' '.join(arguments)})")
                continue
            by = f"{tool}, run {' '.join(arguments)}"
            figures.append({"name": name, "value": value * factor, "unit": unit, "by": by})
        return figures

    return {"figures": chip.without(measured), "notes": notes}


def layers(inputs: dict[str, Array], count: int) -> list[Table]:
    """Raise `Unsupported`: HailoRT times no layers."""
    msg = "HailoRT does not time layers: that takes the Dataflow Compiler's profiler"
    hint = (
        "`hailortcli run2 -m raw_sync measure-fw-actions --output-path runtime_data.json set-net"
        " model.hef` here, then `hailo profiler quantized.har --runtime-data runtime_data.json`"
        " where the compiler is."
    )
    raise Unsupported(msg, hint)


def memory() -> dict[str, int]:
    """HailoRT does not tell how much of the chip's memory a model takes."""
    return {}


def close() -> None:
    """Let models and chip go."""
    chip = state.pop("chip", None)
    state.clear()
    if chip is not None:
        chip.let_go()


def answered(model: Model) -> Table:
    """A loaded model as `load` answers it."""
    return {
        "inputs": [edge.described() for edge in model.manifest.inputs],
        "outputs": [edge.described() for edge in model.manifest.outputs],
        "options": model.options,
    }


def virtual(tools: dict[str, str]) -> Table:
    """The mark of a stand-in among what a figure rests on; none where all is the vendor's own."""
    return {"virtual": True} if any(map(hailort_versions.is_standin, tools.values())) else {}


def current() -> Chip:
    """The chip that `load` took."""
    if "chip" not in state:
        msg = "no artifact is loaded"
        raise BadInput(msg, "Call load(artifact, options) first.")
    return state["chip"]


def first() -> Model:
    """The model that `load` brought."""
    models = current().models
    if not models:
        msg = "the chip could not be taken up again after vendor_figures()"
        raise BadInput(msg, "Call load(artifact, options) again.")
    return models[0]


def checked(options: Table) -> Table:
    """The options given over the known ones' defaults; an unknown key or value is refused."""
    chosen = {key: fix[0] if isinstance(fix, tuple) else fix for key, fix in OPTIONS.items()}
    for key, value in options.items():
        if key not in OPTIONS:
            near = difflib.get_close_matches(str(key), list(OPTIONS), n=1, cutoff=0.4)
            msg = f"option {key!r} is not known"
            raise BadInput(
                msg, f"Did you mean {near[0]!r}?" if near else f"Known: {list(OPTIONS)}."
            )
        choices = OPTIONS[key] if isinstance(OPTIONS[key], tuple) else ()
        if choices and value not in choices:
            msg = f"option {key} is {value!r}, expected one of {choices}"
            raise BadInput(msg, "See docs of the target's run options.")
        wrong = type(value) is not type(chosen[key])
        if wrong or (isinstance(value, int) and value < 1):
            msg = f"option {key} is {value!r}, expected a value like {chosen[key]!r}"
            raise BadInput(msg, "batch_size and timeout_ms are 1 or more, device_id is text.")
    return {**chosen, **options}
