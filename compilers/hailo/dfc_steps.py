"""The SDK's steps on one model: parse, optimize, compile, each gone on from where it was kept."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from dfc_faults import BadInput, Unsupported, explained, require
from dfc_log import Capture
from dfc_states import key_of, program_sha256, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from dfc_network import Network
    from dfc_script import Script
    from dfc_states import States

    Array = np.ndarray[Any, Any]
    Runner = Any  # the SDK's ClientRunner
    Table = dict[str, Any]

STEPS = {"parsed": "parse", "quantized": "optimize", "compiled": "compile"}


class Job:
    """One model on its way; `made` tells of each stage whether it was kept or made, `logs` what was
    printed for it, `ends` the layers of inputs and outputs."""

    def __init__(
        self, sdk: ModuleType, states: States, network: Network, *, name: str, arch: str, work: Path
    ) -> None:
        self.sdk, self.states, self.network = sdk, states, network
        self.name, self.arch, self.work = name, arch, work
        self.made: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.ends: Table = {}
        self._runner: Runner = None
        self._again: dict[str, Callable[[], Table]] = {}

    def parse(self) -> Table:
        """The parsed network; answers the layers of its ends: see `ends_of`."""
        proto = self.network.proto.SerializeToString(deterministic=True)
        parts = {
            "model": hashlib.sha256(proto).hexdigest(),
            "end nodes": self.network.end_nodes(),
            "network": self.name,
            "hw_arch": self.arch,
            "sdk": self.sdk.__version__,
            "program": program_sha256(),
        }
        self.ends = self._stage("parsed", key_of(parts), self._parse)
        return self.ends

    def _parse(self, key: str, said: Callable[[], str]) -> Table:
        path = self.work / "model.onnx"
        onnx.save(self.network.proto, str(path))
        runner = self.sdk.ClientRunner(hw_arch=self.arch)
        runner.translate_onnx_model(
            str(path),
            net_name=self.name,
            start_node_names=[each["name"] for each in self.network.inputs],
            end_node_names=self.network.end_nodes(),
            net_input_shapes={each["name"]: each["shape"] for each in self.network.inputs},
        )
        ends = ends_of(runner.get_hn_dict(), self.network)
        self._runner = runner
        facts = {**ends, "log": said()}
        self.states.keep("parsed", key, {".har": runner.save_har}, facts)
        return facts

    def optimize(self, script: Script, data: dict[str, Array], data_sha256: str) -> None:
        """The quantized network; `data` are calibration samples by the name of the input."""
        parts = {
            "parsed": self.keys["parsed"],
            "script": script.optimize,
            "calibration": data_sha256,
            "surroundings": surroundings(),
        }

        def make(key: str, said: Callable[[], str]) -> Table:
            runner = self._resumed("parsed")
            runner.load_model_script("\n".join(script.optimize) + "\n")
            runner.optimize(self.dataset(data))
            count = len(runner.get_hn_dict()["net_params"]["output_layers_order"])
            if count != len(self.network.outputs):
                msg = f"the model script leaves {count} outputs of {len(self.network.outputs)}"
                raise BadInput(msg, "Drop the line of `model_script` that changes the outputs.")
            facts = {"log": said()}
            self.states.keep("quantized", key, {".har": runner.save_har}, facts)
            return facts

        self._stage("quantized", key_of(parts), make)

    def compile(self, script: Script) -> Path:
        """The compiled network; the path of its HEF."""
        parts = {"quantized": self.keys["quantized"], "script": script.compile}

        def make(key: str, said: Callable[[], str]) -> Table:
            runner = self._resumed("quantized")
            if script.compile:
                runner.load_model_script(script.commands())
            hef = runner.compile()
            if not hef:
                msg = "the compiler gave no HEF; its log says why"
                raise RuntimeError(msg)

            def write_hef(path: str) -> None:
                Path(path).write_bytes(hef)

            facts = {"log": said()}
            writers = {".har": runner.save_har, ".hef": write_hef}
            self.states.keep("compiled", key, writers, facts)
            return facts

        key = key_of(parts)
        self._stage("compiled", key, make)
        return self.states.path("compiled", key, ".hef")

    def dataset(self, data: dict[str, Array]) -> Array | dict[str, Array]:
        """Samples as the SDK takes them: an array for one input, else by the layers' names."""
        shaped = {
            layer: data[name].reshape(len(data[name]), *shape)
            for name, (layer, shape) in self.ends["inputs"].items()
        }
        return next(iter(shaped.values())) if len(shaped) == 1 else shaped

    def _stage(
        self, stage: str, key: str, make: Callable[[str, Callable[[], str]], Table]
    ) -> Table:
        """What is to be known of a stage, made where it is not kept."""
        self.keys[stage] = key
        self._again[stage] = lambda: self._stage(stage, key, make)
        facts = self.states.facts(stage, key)
        self.made[stage] = "made" if facts is None else "kept"
        if facts is None:
            capture = Capture(self.work / f"{stage}.log")
            with capture, inside(self.work), told(STEPS[stage], self.network.operators()):
                facts = make(key, capture.text)
        else:
            print(f"{stage}: gone on from {self.states.path(stage, key).name}")
            self._runner = None
        self.logs[stage] = facts.pop("log")
        return facts

    def _resumed(self, stage: str) -> Runner:
        """The runner in that stage: as it stands here, else out of the stage's HAR."""
        if self._runner is None:
            path = self.states.path(stage, self.keys[stage])
            try:
                self._runner = self.sdk.ClientRunner(hw_arch=self.arch, har=str(path))
            except Exception as error:
                print(f"{path.name} cannot be loaded, and is made again: {error}")
                self.states.drop(stage, self.keys[stage])
                self._again[stage]()
        return self._runner


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Within it, the working folder: the SDK writes its own logs where it stands."""
    before = Path.cwd()
    os.chdir(str(folder))
    try:
        yield
    finally:
        os.chdir(str(before))


@contextlib.contextmanager
def told(stage: str, operators: dict[str, str]) -> Iterator[None]:
    """Within it, what the SDK raises is explained where it can be."""
    try:
        yield
    except Exception as error:
        known = explained(error, stage, operators)
        if known is None or known is error:
            raise
        raise known from error


def ends_of(hn: Table, network: Network) -> Table:
    """The layers of a parsed network that stand for the model's ends.

    `inputs`: layer and shape (batch left out) by the input's name; `outputs` the same; `layers`:
    the original names of every layer. Raises `Unsupported` where the outputs are others than those
    asked for.
    """
    layers, order = hn["layers"], list(hn["net_params"]["output_layers_order"])
    named = {name: list(layer.get("original_names") or []) for name, layer in layers.items()}
    ending = {name: list(words) for name, words in named.items()}
    for name, layer in layers.items():
        for source in layer.get("input") or [] if layer.get("type") == "output_layer" else []:
            ending[source] = [*ending.get(source, []), *named[name]]
    inputs = {}
    for each in network.inputs:
        layer = next(
            (
                name
                for name in layers
                if layers[name].get("type") == "input_layer" and each["name"] in named[name]
            ),
            None,
        )
        if layer is None:
            msg = f"the parsed network has no input layer for {each['name']!r}"
            raise Unsupported(msg, "An input that no end node depends on has to be left out.")
        inputs[each["name"]] = [layer, without_batch(layers[layer]["input_shapes"][0])]
    outputs, free = {}, list(order)
    for each in network.outputs:
        layer = next(
            (name for alias in each["aliases"] for name in free if alias in ending.get(name, [])),
            None,
        )
        if layer is not None:
            free.remove(layer)
            outputs[each["name"]] = [layer, without_batch(layers[layer]["output_shapes"][0])]
    if free or len(outputs) < len(network.outputs):
        asked = ", ".join(f"{each['name']} (node {each['node']})" for each in network.outputs)
        got = ", ".join(f"{name} ({', '.join(named.get(name, []))})" for name in order)
        msg = f"the parser was asked for the outputs {asked} and gives {got or 'none'}"
        raise Unsupported(msg, "Choose end nodes that the parser takes as they are (`end_nodes`).")
    return {"inputs": inputs, "outputs": outputs, "layers": named}


def without_batch(shape: list[Any]) -> list[int]:
    """A layer's shape without its first axis."""
    return [int(size) for size in shape[1:]]


def layers_named(chosen: Table, precision: str, ends: Table, network: Network) -> Table:
    """The layers chosen for other bits, by precision mode, as a script names them.

    Taken are names of layers, with or without the network's before them, patterns with *, and names
    of ONNX nodes. Raises `BadInput` for what stands for no layer.
    """
    if precision == "int16":
        return {"a16_w16": ["*"]}
    short = {name.rpartition("/")[2]: originals for name, originals in ends["layers"].items()}
    nodes = network.operators()
    found: dict[str, list[str]] = {}
    for mode in ("a16_w16", "a8_w4"):
        names: list[str] = []
        for word in chosen[mode]:
            plain = word.rpartition("/")[2] if word in ends["layers"] else word
            of_node = [layer for layer, originals in short.items() if word in originals]
            if plain in short or fnmatch.filter(short, plain):
                names.append(plain)
            elif of_node:
                names += of_node
            elif word in nodes:
                msg = f"{mode}: no layer is made of node {word!r} ({nodes[word]}) alone"
                raise BadInput(msg, f"Layers: {', '.join(short)}.")
            else:
                require([word], [*short, *nodes], f"{mode}: layer")
        found[mode] = list(dict.fromkeys(names))
    return found


def emulated(
    sdk: ModuleType, har: Path, sidecar: Table, data: dict[str, Array], context: str
) -> dict[str, Array]:
    """The outputs of a HAR's network in one of the SDK's contexts, (N, …) by the ONNX names.

    `data` is (N, *wire shape) by the inputs' names.
    """
    runner = sdk.ClientRunner(hw_arch=sidecar["hw_arch"], har=str(har))
    hn = runner.get_hn_dict()
    fed = {}
    for each in sidecar["inputs"]:
        shape = without_batch(hn["layers"][each["layer"]]["input_shapes"][0])
        fed[each["layer"]] = data[each["name"]].reshape(len(data[each["name"]]), *shape)
    one = next(iter(fed.values()))
    with runner.infer_context(getattr(sdk.InferenceContext, context)) as opened:
        given = one if len(fed) == 1 else fed
        results = runner.infer(opened, given, batch_size=min(8, len(one)))
    order = list(hn["net_params"]["output_layers_order"])
    if not isinstance(results, dict):
        listed = list(results) if isinstance(results, (list, tuple)) else [results]
        if len(listed) != len(order):
            msg = f"{context} gives {len(listed)} outputs, the network has {len(order)}"
            raise RuntimeError(msg)
        results = {order[place]: value for place, value in enumerate(listed)}
    return {each["name"]: np.asarray(results[each["layer"]]) for each in sidecar["outputs"]}
