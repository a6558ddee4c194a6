"""Subcommand benchmark: three runs of one HEF, their summary and their CSV."""

from pathlib import Path
from types import SimpleNamespace

from hailo_platform.standin.chip import machine
from hailo_platform.standin.command import run
from hailo_platform.standin.command.arguments import existing_file, option, parse, positive
from hailo_platform.standin.command.devices import sampling, say

COLUMNS = (
    "net_name,fps,hw_only_fps,num_of_frames,num_of_frames_hw_only,hw_latency,overall_latency,"
    "min_power,average_power,max_power"
)


def main(words):
    """benchmark x.hef [options]"""
    options = [
        *run.VDEVICE_OPTIONS,
        option("-t,--time-to-run", positive, 15),
        option("--batch-size", positive, 1),
        option("--power-mode", run.MODES, "performance"),
        option("--csv"),
        *sampling(),
    ]
    values, _ = parse(words, options, option("hef", existing_file))
    say("Starting Measurements...")
    say("Measuring FPS in HW-only mode")
    alone = phase(values, mode="hw_only")
    say("Measuring FPS (and Power on supported platforms) in streaming mode")
    named = values.device_id or values.bdf
    sensor = any(one.power_sensor for one in machine().devices if named in (None, one.id))
    streaming = phase(values, measure_power=sensor)
    say("Measuring HW Latency")
    latency = phase(values, measure_latency=True)
    for line in ("", "=======", "Summary", "======="):
        say(line)
    say(f"FPS     (hw_only)                 = {alone.fps:g}")
    say(f"        (streaming)               = {streaming.fps:g}")
    say(f"Latency (hw)                      = {latency.hw_latency_ms:g} ms")
    if streaming.power:
        say(f"Device {streaming.device}:")
        say(f"  Power in streaming mode (average) = {streaming.power[1]:g} W")
        say(f"                          (max)     = {streaming.power[2]:g} W")
    if values.csv:
        figures = run.cells(streaming.fps, alone.fps)
        figures += [str(streaming.frames), str(alone.frames)]
        figures += run.cells(latency.hw_latency_ms, None, *(streaming.power or (None,) * 3))
        line = ",".join([alone.name, *figures])
        Path(values.csv).write_text(f"{COLUMNS}\n{line}\n", encoding="utf-8")
    return 0


def phase(values, **chosen):
    """One of the runs; its text is the summary's alone."""
    settings = {
        "mode": "streaming",
        "frames_count": 0,
        "measure_latency": False,
        "measure_overall_latency": False,
        "measure_power": False,
        "measure_current": False,
        "measure_temp": False,
        **vars(values),
        **chosen,
    }
    found = run.inferred(SimpleNamespace(**settings))
    rate = f"FPS: {found.fps:.2f}" if found.fps else f"HW Latency: {found.hw_latency_ms:.2f} ms"
    say(f"Network {found.network}: 100% | {found.frames} | {rate} | ETA: 00:00:00")
    return found
