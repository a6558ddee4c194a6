"""Subcommand run: made-up rates, latencies and power of one HEF, as text and as CSV."""

import time
from pathlib import Path
from types import SimpleNamespace

from hailo_platform.standin import chip, hef, power
from hailo_platform.standin.command.arguments import (
    existing,
    member,
    natural,
    option,
    parse,
    positive,
    refuse_unless,
)
from hailo_platform.standin.command.devices import DEVICE_OPTIONS, sampling, say
from hailo_platform.standin.status import CODES, NAMES, HailoRTStatusException, fail

DEFAULT_SECONDS = 5
COLUMNS = (
    "net_name,status,status_description,fps,num_of_frames,send_rate,recv_rate,hw_latency,"
    "overall_latency,min_power,average_power,max_power,min_current,average_current,max_current,"
    "min_temp,average_temp,max_temp"
)
CLEAR_LINE = "\033[2K\r"
# what the made-up host adds to the made-up chip's time, and costs of its rate
HOST_S = 0.0005
STREAMING = 0.95
MODES = member("performance", "ultra_performance")
VDEVICE_OPTIONS = [
    *DEVICE_OPTIONS,
    option("--device-count", positive, 1),
    option("--group-id"),
    option("--multi-process-service", flag=True),
]


def options():
    """All that `run` takes and the stand-in knows."""
    either = ("--measure-power",)
    return [
        *VDEVICE_OPTIONS,
        option("-c,--frames-count", positive, 0, excludes=("--time-to-run",)),
        option("-t,--time-to-run", positive, 0, excludes=("--frames-count",)),
        option("--batch-size", natural, 0),
        option("--power-mode", MODES, "performance"),
        option("-m,--mode", member("streaming", "hw_only"), "streaming"),
        option("--csv"),
        option("--measure-latency", flag=True),
        option("--measure-overall-latency", flag=True, needs=("--measure-latency",)),
        option("--measure-power", flag=True, excludes=("--measure-current",)),
        option("--measure-current", flag=True, excludes=either),
        option("--measure-temp", flag=True),
        option("--show-progress", flag=True),
        option("--dont-show-progress", flag=True),
        option("--quantized", member("true", "false"), "true"),
        option("--user-format-type", member("auto", "uint8", "uint16", "float32"), "auto"),
        *sampling(),
    ]


def main(words):
    """run x.hef [options]"""
    values, given = parse(words, options(), option("hef", existing))
    window = {"--sampling-period", "--averaging-factor"} & given
    refuse_unless(
        not window or values.measure_power or values.measure_current,
        f"{min(window, default='')} requires --measure-power or --measure-current",
    )
    refuse_unless(
        values.time_to_run or not values.batch_size or values.frames_count % values.batch_size == 0,
        "--batch-size should be a divisor of --frames-count if provided",
    )
    if not values.time_to_run and not values.frames_count:
        values.time_to_run = DEFAULT_SECONDS
    if Path(values.hef).is_dir():
        fail("HAILO_NOT_IMPLEMENTED", "stand-in: one HEF a run")
    write(values.csv, f"{COLUMNS}\n")
    say(f"Running {values.mode} inference ({values.hef}):")
    transformed = values.mode != "hw_only"
    say(f"  Transform data: {str(transformed).lower()}")
    if transformed:
        say(f"    Type:      {values.user_format_type}")
        say(f"    Quantized: {values.quantized}")
    try:
        result, code = inferred(values), 0
        line = row(result) + "\n"
    except HailoRTStatusException as error:
        result, code = None, int(error.args[0])
        # where the HEF itself cannot be read this ends it, and the CSV keeps its header alone
        line = f"{hef.read(values.hef).name},{code},{NAMES[code]}" + "," * 11
    write(values.csv, line)
    if values.csv:
        say(f"> Writing inference results to '{values.csv}'... done.")
    if result is not None:
        report(result, values)
    return code


def write(path, line):
    """Append to the CSV, if one is wanted; its columns begin it anew."""
    if path:
        with Path(path).open("w" if line.startswith(COLUMNS) else "a", encoding="utf-8") as file:
            file.write(line)


def inferred(values):
    """The made-up result of one run on a chip that is held while it runs."""
    model = hef.read(values.hef)
    named = values.device_id or values.bdf
    refuse_multiple(values)
    ((one, file),) = chip.take([named] if named else [])
    with file:
        hef.check_chip(model, one)
        for asked, what in ((values.measure_power, "Power"), (values.measure_current, "Current")):
            if asked and not one.power_sensor:
                fail(
                    "HAILO_INVALID_OPERATION",
                    f"CHECK failed - {what} measurement not supported."
                    f" Disable the {what.lower()}-measure option",
                    "HailoRT CLI",
                )
        return result_of(model, one, values)


def refuse_multiple(values):
    """The stand-in runs on one chip, and has no service."""
    if values.device_count != 1 or values.multi_process_service or values.group_id:
        fail("HAILO_NOT_IMPLEMENTED", "stand-in: one chip, held alone")


def result_of(model, one, values):
    """Figures that follow from the HEF's estimate and the state of the chip; nothing is run."""
    rate = model.fps * (1.0 if values.mode == "hw_only" else STREAMING)
    seconds = values.time_to_run or values.frames_count / rate
    time.sleep(seconds * one.command_time_scale)
    serial = values.measure_latency
    frames = values.frames_count or int(seconds / (one.command_latency_s + HOST_S))
    if not serial:
        frames = values.frames_count or int(seconds * rate)
    found = SimpleNamespace(
        name=model.name,
        network=model.network,
        device=one.id,
        frames=frames,
        seconds=None if serial else seconds,
        fps=None if serial else frames / seconds,
        sent=None,
        received=None,
        hw_latency_ms=one.command_latency_s * 1000 if serial else None,
        overall_ms=None,
        power=None,
        current=None,
        temperature=None,
    )
    if not serial:
        found.sent = found.fps * sum(hef.elements(each) for each in model.inputs) * 8e-6
        found.received = found.fps * sum(hef.elements(each) for each in model.outputs) * 8e-6
    if values.measure_overall_latency:
        found.overall_ms = (one.command_latency_s + HOST_S) * 1000
    if values.measure_power:
        found.power = spread(power.value(one, "POWER"))
    if values.measure_current:
        found.current = spread(power.value(one, "CURRENT"))
    if values.measure_temp:
        found.temperature = (one.temperature_c, one.temperature_c + 0.25, one.temperature_c + 0.5)
    return found


def spread(value):
    """(minimum, average, maximum) of a made-up window."""
    return value * (1 - power.SPREAD), value, value * (1 + power.SPREAD)


def cells(*figures):
    """As the real command writes numbers: six digits, nothing where there is none."""
    return ["" if figure is None else f"{figure:g}" for figure in figures]


def row(found):
    """A line of the CSV."""
    none = (None, None, None)
    figures = [*cells(found.fps), str(found.frames)]
    figures += cells(found.sent, found.received, found.hw_latency_ms, found.overall_ms)
    for three in (found.power, found.current, found.temperature):
        figures += cells(*(three or none))
    return ",".join([found.name, "0", NAMES[CODES["HAILO_SUCCESS"]], *figures])


def report(found, values):
    """The text after a run."""
    if not values.dont_show_progress:
        said = f"Network {found.network}: 100% | {found.frames}"
        said += f"/{values.frames_count}" if values.frames_count else ""
        rate = f"HW Latency: {found.hw_latency_ms or 0.0:.2f} ms"
        rate = rate if found.fps is None else f"FPS: {found.fps:.2f}"
        say(f"{said} | {rate} | ETA: 00:00:00")
    say(f"{CLEAR_LINE}> Inference result:")
    say(f" Network group: {found.name}")
    if values.time_to_run:
        say(f"    Frames count: {found.frames}")
    elif found.seconds is not None:
        say(f"    Duration: {time.strftime('%H:%M:%S', time.gmtime(found.seconds))}")
    for title, figure, unit in (
        ("FPS", found.fps, ""),
        ("Send Rate", found.sent, " Mbit/s"),
        ("Recv Rate", found.received, " Mbit/s"),
        ("HW Latency", found.hw_latency_ms, " ms"),
        ("Overall Latency", found.overall_ms, " ms"),
    ):
        if figure is not None:
            say(f"    {title}: {figure:.2f}{unit}")
    say()
    measured = [
        (found.power, "power consumption", " W"),
        (found.current, "current consumption", " mA"),
        (found.temperature, "chip temperature", "C"),
    ]
    if any(three for three, _, _ in measured):
        say(f"  Device: {found.device}")
    for three, quantity, unit in measured:
        for place, figure in enumerate(three or ()):
            say(f"    {('Minimum', 'Average', 'Maximum')[place]} {quantity}: {figure:.2f}{unit}")
