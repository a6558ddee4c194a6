"""The commands of a model script: one function each, its arguments those of the command.

Each is given the network first, checks its arguments, and answers what the optimization needs.
"""

import fnmatch
from pathlib import Path

from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    AllocatorScriptParserException,
    HailoNNException,
)

POLICIES = ("enabled", "disabled", "allowed")
PRECISIONS = ("a8_w8", "a8_w4", "a16_w16")
CONVERSIONS = (
    "bgr_to_rgb",
    "yuv_to_rgb",
    "yuy2_to_yuv",
    "yuy2_to_rgb",
    "nv12_to_yuv",
    "nv12_to_rgb",
    "nv21_to_yuv",
    "nv21_to_rgb",
    "i420_to_yuv",
    "i420_to_rgb",
)
ACTIVATIONS = ("linear", "relu", "relu6", "sigmoid", "tanh")
METAS = ("yolov5", "yolov5_seg", "yolov6", "yolov8", "yolox", "ssd", "centernet", "damoyolo")


def normalization(network, mean, std, layer=None):
    """Subtract and divide by channel, behind one input or behind the only one."""
    target = _input(network, layer, "normalization")
    channels = network.layer(target).output_shape[-1]
    for values, word in ((mean, "mean"), (std, "std")):
        if not isinstance(values, list) or not all(isinstance(v, int | float) for v in values):
            msg = f"normalization {word} {values} is not a list of numbers"
            raise _wrong(msg)
        if len(values) != channels:
            text = f"normalization {word} has {len(values)} values, layer {target} has {channels}"
            msg = f"{text} features"
            raise _wrong(msg)
    if any(value == 0 for value in std):
        msg = "normalization std holds a zero"
        raise _wrong(msg)
    return {"layer": target, "mean": mean, "std": std}


def input_conversion(network, layer, conversion=None, emulator_support=None):
    """Change the colours behind an input; the layer may be left out where there is only one."""
    if conversion is None:
        layer, conversion = None, layer
    _one_of("input_conversion", conversion, CONVERSIONS)
    _one_of("emulator_support", emulator_support, (None, "True", "False"))
    target = _input(network, layer, "input_conversion")
    if conversion != "bgr_to_rgb":
        msg = f"this stand-in computes bgr_to_rgb alone, not {conversion}"
        raise _wrong(msg)
    if network.layer(target).output_shape[-1] != 3:
        msg = f"{conversion} needs 3 features, {target} has another number"
        raise _wrong(msg)
    return {"layer": target, "conversion": str(conversion)}


def model_optimization_flavor(
    _network, *, optimization_level=None, compression_level=None, batch_size=None
):
    """Effort of the optimization: level -100 to 4, compression 0 to 5."""
    _whole("optimization_level", optimization_level, -100, 4)
    _whole("compression_level", compression_level, 0, 5)
    _whole("batch_size", batch_size, 1, 1 << 16)
    return {
        "optimization_level": optimization_level,
        "compression_level": compression_level,
        "batch_size": batch_size,
    }


def model_optimization_config(
    network,
    feature,
    *,
    batch_size=None,
    calibset_size=None,
    multiproc_policy=None,
    layers=None,
    rank=None,
    policy=None,
    dataset_size=None,
    analyze_mode=None,
    auto_4bit_weights_ratio=None,
    auto_16bit_weights_ratio=None,
):
    """One group of settings; each has arguments of its own."""
    own = {
        "calibration": ("batch_size", "calibset_size"),
        "globals": ("multiproc_policy",),
        "negative_exponent": ("layers", "rank"),
        "checker_cfg": ("policy", "dataset_size", "analyze_mode", "batch_size"),
        "compression_params": ("auto_4bit_weights_ratio", "auto_16bit_weights_ratio"),
    }
    given = {
        "batch_size": batch_size,
        "calibset_size": calibset_size,
        "multiproc_policy": multiproc_policy,
        "layers": layers,
        "rank": rank,
        "policy": policy,
        "dataset_size": dataset_size,
        "analyze_mode": analyze_mode,
        "auto_4bit_weights_ratio": auto_4bit_weights_ratio,
        "auto_16bit_weights_ratio": auto_16bit_weights_ratio,
    }
    given = {key: value for key, value in given.items() if value is not None}
    _feature("model_optimization_config", feature, own, given)
    for key in ("batch_size", "calibset_size", "dataset_size"):
        _whole(key, given.get(key), 1, 1 << 24)
    _whole("rank", rank, 0, 2)
    _one_of("multiproc_policy", multiproc_policy, (None, *POLICIES))
    _one_of("policy", policy, (None, *POLICIES))
    _one_of("analyze_mode", analyze_mode, (None, "simple", "advanced"))
    if layers is not None:
        _layers(network, layers)
    return {"feature": str(feature), **given}


def pre_quantization_optimization(
    network, feature, *, policy=None, layers=None, mode=None, clipping_values=None
):
    """An algorithm on the float model."""
    every = ("policy", "layers")
    clipping = (*every, "mode", "clipping_values")
    own = {
        "equalization": every,
        "ew_add_fusing": every,
        "matmul_correction": every,
        "activation_clipping": clipping,
        "weights_clipping": clipping,
    }
    given = {"policy": policy, "layers": layers, "mode": mode, "clipping_values": clipping_values}
    given = {key: value for key, value in given.items() if value is not None}
    _feature("pre_quantization_optimization", feature, own, given)
    _one_of("policy", policy, (None, *POLICIES))
    _one_of("mode", mode, (None, "disabled", "manual", "percentile", "mmse", "mmse_if4b"))
    if layers is not None:
        _layers(network, layers)
    return {"feature": str(feature), **given}


def post_quantization_optimization(
    _network,
    feature,
    *,
    policy=None,
    learning_rate=None,
    epochs=None,
    dataset_size=None,
    batch_size=None,
):
    """An algorithm on the quantized model."""
    trained = ("policy", "learning_rate", "epochs", "dataset_size", "batch_size")
    own = {
        "finetune": trained,
        "adaround": trained,
        "bias_correction": ("policy", "batch_size"),
    }
    given = {
        "policy": policy,
        "learning_rate": learning_rate,
        "epochs": epochs,
        "dataset_size": dataset_size,
        "batch_size": batch_size,
    }
    given = {key: value for key, value in given.items() if value is not None}
    _feature("post_quantization_optimization", feature, own, given)
    _one_of("policy", policy, (None, *POLICIES))
    for key in ("epochs", "dataset_size", "batch_size"):
        _whole(key, given.get(key), 1, 1 << 24)
    return {"feature": str(feature), **given}


def quantization_param(network, layers, *, precision_mode=None):
    """Bits of the activations and weights of layers."""
    _one_of("precision_mode", precision_mode, PRECISIONS)
    return {"layers": _layers(network, layers), "precision_mode": str(precision_mode)}


def change_output_activation(network, layer, activation=None):
    """The activation of one output, or of all."""
    if activation is None:
        layer, activation = None, layer
    _one_of("activation", activation, ACTIVATIONS)
    chosen = network.outputs if layer is None else _layers(network, layer)
    for name in chosen:
        if name not in network.outputs:
            msg = f"layer {name} is no output of the network: {', '.join(network.outputs)}"
            raise _wrong(msg)
    return {"layers": chosen, "activation": str(activation)}


def nms_postprocess(_network, config=None, *, meta_arch=None, engine=None):
    """Boxes out of raw heads: the file and the words are checked, nothing is computed."""
    _one_of("meta_arch", meta_arch, METAS)
    _one_of("engine", engine, (None, "cpu", "nn_core", "auto"))
    if config is not None and not Path(config).is_file():
        msg = f"Post-process config file isn't found in {config}"
        raise _wrong(msg)
    return {"meta_arch": str(meta_arch)}


def performance_param(
    _network,
    *,
    compiler_optimization_level=None,
    fps=None,
    optimize_for_batch=None,
    optimize_for_power=None,
):
    """What the compiler aims at."""
    _one_of("compiler_optimization_level", compiler_optimization_level, (None, 0, 1, 2, "max"))
    _whole("optimize_for_batch", optimize_for_batch, 1, 1 << 16)
    _one_of("optimize_for_power", optimize_for_power, (None, "True", "False"))
    return {"level": compiler_optimization_level, "fps": fps}


def resources_param(
    _network,
    *,
    max_utilization=None,
    max_control_utilization=None,
    max_compute_utilization=None,
    max_memory_utilization=None,
):
    """How much of the chip may be filled, 0 to 1 and a little over."""
    shares = {
        "max_utilization": max_utilization,
        "max_control_utilization": max_control_utilization,
        "max_compute_utilization": max_compute_utilization,
        "max_memory_utilization": max_memory_utilization,
    }
    for name, share in shares.items():
        if share is not None and not (isinstance(share, int | float) and 0 < share <= 1.2):
            msg = f"{name} is {share}, expected a number above 0 and up to 1.2"
            raise _wrong(msg)


def allocator_param(_network, *, timeout=None):
    """How long the mapping may take, in s, m or h."""
    if timeout is not None and not str(timeout)[:1].isdigit():
        msg = f"timeout is {timeout}, expected a time such as 25m"
        raise _wrong(msg)


def context_switch_param(_network, *, mode=None):
    """Whether a network may be cut into contexts."""
    _one_of("mode", mode, ("enabled", "disabled", "auto", "allowed"))


def set_seed(_network, *, seed=None):
    """The seed of what is random."""
    _whole("seed", seed, 0, 1 << 32)
    if seed is None:
        msg = "set_seed needs seed"
        raise _wrong(msg)


KNOWN = {
    function.__name__: function
    for function in (
        normalization,
        input_conversion,
        model_optimization_flavor,
        model_optimization_config,
        pre_quantization_optimization,
        post_quantization_optimization,
        quantization_param,
        change_output_activation,
        nms_postprocess,
        performance_param,
        resources_param,
        allocator_param,
        context_switch_param,
        set_seed,
    )
}


def _wrong(text):
    return AllocatorScriptParserException(text)


def _one_of(name, value, known):
    if value not in known:
        words = ", ".join(str(word) for word in known if word is not None)
        msg = f"{name} is {value}, expected one of {words}"
        raise _wrong(msg)


def _whole(name, value, low, high):
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        msg = f"{name} is {value}, expected a whole number from {low} to {high}"
        raise _wrong(msg)


def _feature(command, feature, own, given):
    _one_of(f"feature of {command}", feature, tuple(own))
    for key in given:
        if key not in own[feature]:
            text = f"No argument named {key} for {feature} in command {command}"
            msg = f"{text}. Arguments: {', '.join(own[feature])}"
            raise _wrong(msg)


def _layers(network, words):
    """Layers by name, with or without the network's, and by pattern."""
    found = []
    for word in words if isinstance(words, list) else [words]:
        short = str(word).removeprefix(f"{network.name}/")
        names = [layer.name for layer in network.layers]
        named = [name for name in names if fnmatch.fnmatch(name.split("/", 1)[1], short)]
        if not named:
            text = f"The layer named {short} doesn't exist in the HN"
            raise HailoNNException(text)
        found += named
    return list(dict.fromkeys(found))


def _input(network, layer, command):
    inputs = network.inputs
    if layer is None:
        if len(inputs) > 1:
            msg = f"{command} must name its input layer: {', '.join(inputs)}"
            raise _wrong(msg)
        return inputs[0]
    found = _layers(network, layer)[0]
    if found not in inputs:
        msg = f"{command} can follow an input layer only, {found} is none"
        raise _wrong(msg)
    return found
