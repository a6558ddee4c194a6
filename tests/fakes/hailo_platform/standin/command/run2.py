"""Subcommand run2: one or more networks at once, live lines, and a JSON of the figures."""

import json
import time
from pathlib import Path

from hailo_platform.standin import chip, hef, power
from hailo_platform.standin.command.arguments import (
    INVALID,
    Refused,
    existing_file,
    json_file,
    member,
    natural,
    option,
    parse,
    positive,
    refuse_unless,
)
from hailo_platform.standin.command.devices import say
from hailo_platform.standin.command.run import HOST_S, STREAMING, spread
from hailo_platform.standin.status import fail, log

LOGGER = "HailoRT CLI"
MODES = member("full_sync", "full_async", "raw_sync", "raw_async")


def number(word):
    """A number of any kind."""
    try:
        return float(word), ""
    except ValueError:
        return 0.0, f"Could not convert: {word}"


def main(words):
    """run2 [options] set-net x.hef [options] [set-net …]"""
    if "measure-fw-actions" in words or "collect-runtime-data" in words:
        message = "stand-in: it collects no runtime data"
        raise Refused(message, INVALID)
    parts = [[]]
    for word in words:
        if word == "set-net":
            parts.append([])
        else:
            parts[-1].append(word)
    values, _ = parse(parts[0], options())
    networks = [network(part) for part in parts[1:]]
    refuse_unless(
        values.scheduling_algorithm != "none" or len(networks) == 1,
        "When setting --scheduling-algorithm=none only one model is allowed",
    )
    if not networks:
        fail("HAILO_INVALID_OPERATION", "CHECK failed - Nothing to run", LOGGER)
    latency = values.measure_latency or values.measure_overall_latency
    if latency and len(networks) > 1:
        fail(
            "HAILO_INVALID_OPERATION",
            "CHECK failed - When latency measurement is enabled, only one model is allowed",
            LOGGER,
        )
    if latency:
        log(
            "warning",
            "Measuring latency; frames are sent one at a time and FPS will not be measured",
            LOGGER,
        )
    if len(networks) == 1 and values.scheduling_algorithm != "none":
        log(
            "warning",
            '"hailortcli run2" is not optimized for single model usage. It is recommended to use'
            ' "hailortcli run" command for a single model',
            LOGGER,
        )
    ((one, file),) = chip.take([values.device_id] if values.device_id else [])
    with file:
        groups = ran(values, networks, one)
    if values.json:
        Path(values.json).write_text(dump(values, groups, one), encoding="utf-8")
    return 0


def options():
    """All that `run2` takes before its networks and the stand-in knows."""
    return [
        option("-t,--time-to-run", positive, 5),
        option("-m,--mode", MODES, "full_sync"),
        option("-j,--json", json_file),
        option("--scheduling-algorithm", member("round_robin", "none"), "round_robin"),
        option("-s,--device-id"),
        option("--device-count", member(1), 1, excludes=("--device-id",)),
        option("--measure-power", flag=True),
        option("--measure-current", flag=True, excludes=("--measure-power",)),
        option("--measure-latency", flag=True),
        option("--measure-overall-latency", flag=True),
        option("--measure-temp", flag=True),
    ]


def network(words):
    """What one `set-net` says."""
    values, _ = parse(
        words,
        [
            option("--name"),
            option("--batch-size", natural, 0),
            option("--scheduler-threshold", natural, 0),
            option("--scheduler-timeout", natural, 0),
            option("--scheduler-priority", natural, 16),
            option("--framerate", number),
        ],
        option("hef", existing_file),
    )
    return values


def ran(values, networks, one):
    """The JSON of each network: the chip's made-up time shared evenly among them."""
    models = [hef.read(each.hef) for each in networks]
    for model in models:
        hef.check_chip(model, one)
    for asked, what in ((values.measure_power, "Power"), (values.measure_current, "Current")):
        if asked and not one.power_sensor:
            fail(
                "HAILO_INVALID_OPERATION",
                f"CHECK failed - {what} measurement not supported."
                f" Disable the measure-{what.lower()} option",
                LOGGER,
            )
    time.sleep(values.time_to_run * one.command_time_scale)
    say(f"[{'=' * 19}>] 100% 00:00:00")
    groups = []
    for place, model in enumerate(models):
        rate = model.fps * STREAMING / len(models)
        asked = networks[place].framerate
        group = {"name": model.name, "full_hef_path": networks[place].hef}
        figures = []
        if not (values.measure_latency or values.measure_overall_latency):
            group["FPS"] = f"{rate if asked is None else min(asked, rate):f}"
            figures.append(f"fps: {float(group['FPS']):.2f}")
        if values.measure_latency:
            group["hw_latency"] = one.command_latency_s * 1000
            figures.append(f"hw latency: {group['hw_latency']:.2f} ms")
        if values.measure_overall_latency:
            group["overall_latency"] = (one.command_latency_s + HOST_S) * 1000
            figures.append(f"overall latency: {group['overall_latency']:.2f} ms")
        say(f"{model.name}: {' | '.join(figures)}")
        groups.append(group)
    return groups


def dump(values, groups, one):
    """The file of `--json`, indented by four."""
    found = {
        "time": time.ctime(),
        "inference_mode": values.mode,
        "network_groups": groups,
        "time_to_run": f"{values.time_to_run:.2f} seconds",
    }
    # the real command fills its tracks in the order: timer, networks, devices
    found = {key: found[key] for key in ("time", "inference_mode", "network_groups", "time_to_run")}
    measured = {}
    if values.measure_power:
        measured["power"] = three(spread(power.value(one, "POWER")), "W")
    if values.measure_current:
        measured["current"] = three(spread(power.value(one, "CURRENT")), "mA")
    if values.measure_temp:
        celsius = one.temperature_c + 0.5
        measured["temperature"] = three((celsius, celsius, celsius), "C")
    if measured:
        found["devices"] = [{"device_id": one.id, **measured}]
    return json.dumps(found, indent=4) + "\n"


def three(figures, unit):
    """Minimum, maximum and average as texts with their unit."""
    low, mean, high = figures
    return {
        "min": f"{low:f} {unit}",
        "max": f"{high:f} {unit}",
        "average": f"{mean:f} {unit}",
    }
