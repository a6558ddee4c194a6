"""What an optimization will do: its level, bits by layer, and how many samples each step takes."""

import math
import os

from hailo_sdk_client import log
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import AccelerasValueError

RECOMMENDED = 1024
CALIBSET = 64
ALGORITHMS = {
    "bias_correction": "Bias Correction",
    "adaround": "Adaround",
    "finetune": "Quantization-Aware Fine-Tuning",
}
BY_LEVEL = {1: "bias_correction", 2: "finetune", 3: "adaround", 4: "adaround"}
BITS = {"a8_w8": (8, 8), "a8_w4": (8, 4), "a16_w16": (16, 16)}


def setting(script, command, feature=None):
    """The settings of all such commands of a script together, the later over the earlier."""
    merged = {}
    for record in script:
        if record["command"] == command and record.get("feature") == feature:
            merged |= {key: value for key, value in record.items() if value is not None}
    return merged


def level(script, entries):
    """The level done, and the log lines that say so.

    A level that the script names is kept, GPU or not, unless HAILO_STANDIN_REDUCE is set; without
    one it is the highest that GPU and data allow.
    """
    named = setting(script, "model_optimization_flavor").get("optimization_level")
    few, gpu = entries < RECOMMENDED, log.has_gpu()
    reduces = os.environ.get("HAILO_STANDIN_REDUCE", "0") not in {"", "0"}
    if named is not None and (not reduces or named <= 0):
        return named
    reasons = ["there's less data than the recommended amount (1024)"] if few else []
    reasons += [] if gpu else ["there's no available GPU"]
    if not reasons:
        if named is None:
            log.info("Using default optimization level of 2")
        return 2 if named is None else named
    done = min(1 if gpu else 0, 2 if named is None else named)
    what = "the accuracy won't be optimized and compression won't be used"
    because = ", and ".join(reasons)
    log.warning(f"Reducing optimization level to {done} ({what}) because {because}")
    return done


def compression(script, done):
    """Share of the weights that get 4 bits."""
    asked = setting(script, "model_optimization_flavor")
    if "optimization_level" in asked and done <= 1:
        why = "requested optimization level equal or less than 1"
        log.warning(f"Reducing compression level to 0 because {why}")
    return 0.2 * asked.get("compression_level", 0) if done > 1 else 0.0


def bits(network, script, share, sizes):
    """(activation, weight) bits by layer; `sizes` are the numbers of weights by layer."""
    chosen = {layer.name: (8, 8) for layer in network.layers}
    budget = share * sum(sizes.values())
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if sizes[name] <= budget:
            budget -= sizes[name]
            chosen[name] = BITS["a8_w4"]
    for record in script:
        if record["command"] == "quantization_param":
            chosen |= dict.fromkeys(record["layers"], BITS[record["precision_mode"]])
    return chosen


def calibset(script, entries):
    """How many entries the statistics take: 64 unless the script says more, which must be there."""
    asked = setting(script, "model_optimization_config", "calibration").get("calibset_size")
    if asked is not None and asked > entries:
        message = f"calibset_size is {asked}, the dataset has {entries} entries"
        raise AccelerasValueError(message)
    return min(asked or CALIBSET, entries)


def algorithms(script, done, entries):
    """Entries of each algorithm that is to run; a policy in the script is above the level."""
    chosen = {}
    for feature in ALGORITHMS:
        own = setting(script, "post_quantization_optimization", feature)
        policy = own.get("policy", "enabled" if BY_LEVEL.get(done) == feature else "disabled")
        if policy == "enabled":
            default = 256 if feature == "adaround" and done != 4 else RECOMMENDED
            asked = own.get("dataset_size")
            if asked is not None and asked > entries:
                message = f"dataset_size of {feature} is {asked}, the dataset has {entries}"
                raise AccelerasValueError(message)
            chosen[feature] = min(asked or default, entries)
    return chosen


def fps(hw_arch, products):
    """A static estimate out of the number of products alone; it is no measurement of anything."""
    peak = {"hailo8": 13e12, "hailo8r": 13e12, "hailo8l": 6.5e12}[hw_arch]
    return float(f"{min(20000.0, 0.15 * peak / max(1, products)):.4g}")


def products(shapes):
    """Multiplications of one inference, of (weights, positions) by layer."""
    return sum(math.prod(weights) * positions for weights, positions in shapes)
