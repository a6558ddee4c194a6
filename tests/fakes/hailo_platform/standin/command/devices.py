"""Subcommands that ask a device or a file: scan, fw-control, measure-power, parse-hef."""

import sys
import time
from pathlib import Path

from hailo_platform.standin import chip, hef, power
from hailo_platform.standin.command.arguments import (
    existing,
    first,
    member,
    option,
    parse,
    positive,
)
from hailo_platform.standin.status import CODES, NAMES, HailoRTStatusException, fail

DEVICE_OPTIONS = [option("-s,--device-id"), option("--bdf")]
RAILS = (
    "AUTO",
    "VDD_CORE",
    "VDD_IO",
    "MIPI_AVDD",
    "MIPI_AVDD_H",
    "USB_AVDD_IO",
    "VDD_TOP",
    "USB_AVDD_IO_HV",
    "AVDD_H",
    "SDIO_VDD_IO",
    "OVERCURRENT_PROTECTION",
)
UNITS = {
    "AUTO": "W",
    "POWER": "W",
    "CURRENT": "mA",
    "BUS_VOLTAGE": "mV",
    "SHUNT_VOLTAGE": "mV",
}


def sampling(*needs):
    """The two options of a power measurement's window."""
    return [
        option("--sampling-period", member(*power.PERIODS_US), 1100, needs=needs),
        option("--averaging-factor", member(*power.FACTORS), 256, needs=needs),
    ]


def say(line=""):
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def scan(words):
    """Which devices there are."""
    parse(words, [])
    found = chip.machine().devices
    say("Hailo Devices:" if found else "Hailo devices not found")
    for one in found:
        say(f"[-] Device: {one.id}")
    return 0


def each(values, act):
    """Do it on the named device, or on all; the last failure is the status."""
    named = values.device_id or values.bdf
    opened = [chip.opened(one) for one in ([named] if named else ids())]
    status = 0
    for one in opened:
        say(f"Executing on device: {one.id}")
        try:
            act(one)
        except HailoRTStatusException as error:
            status = int(error.args[0])
            sys.stderr.write(
                f"Failed to execute on device: {one.id}. status= {NAMES[status]}({status})\n"
            )
    return status


def ids():
    """The ids of all devices."""
    return [one.id for one in chip.machine().devices]


def fw_control(words):
    """fw-control identify."""
    absent = ("reset", "test-memories", "action-list", "debug")
    _, rest = first(words, ("identify",), absent)
    values, _ = parse(rest, [*DEVICE_OPTIONS, option("--extended", flag=True)])

    def act(one):
        say("Identifying board")
        say("Control Protocol Version: 2")
        say(f"Firmware Version: {one.firmware_version} (release,app)")
        say("Logger Version: 0")
        say(f"Board Name: {one.board_name}")
        say(f"Device Architecture: {one.architecture}")
        for name, value in (
            ("Serial Number", one.serial_number),
            ("Part Number", one.part_number),
            ("Product Name", one.product_name),
        ):
            if value:
                say(f"{name}: {value}")
        if values.extended:
            chip.operate(one, 51)
            say("Boot source: PCIE")
            say(f"Neural Network Core Clock Rate: {one.clock_hz // 1_000_000}MHz")
            features = "Current Monitoring, PCIE" if one.power_sensor else "PCIE"
            say(f"Device supported features: {features}")
            # the real command ends this line nowhere either
            sys.stdout.write("LCS: 3")
        say()

    return each(values, act)


def measure_power(words):
    """One reading, or with --duration a window of samples."""
    options = [
        *DEVICE_OPTIONS,
        option("--duration", positive),
        *sampling("--duration"),
        option("--dvm", member(*RAILS), "AUTO"),
        option("--type", member(*UNITS), "AUTO"),
    ]
    values, _ = parse(words, options)
    unit = UNITS[values.type]

    def act(one):
        try:
            if not values.duration:
                reading = power.single(one, values.dvm, values.type)
                say(f"Current power consumption ({unit}): {reading:g}")
                return
            found = window(one, values, values.duration)
        except HailoRTStatusException as error:
            code = int(error.args[0])
            sys.stderr.write(f"Failed power measurement, status {NAMES[code]}({code})\n")
            raise
        say(f"Measuring power consumption over {values.duration} seconds:")
        say(f"Total samples: {found.total_number_of_samples}")
        say(f"Max value ({unit}): {found.max_value:g}")
        say(f"Min value ({unit}): {found.min_value:g}")
        say(f"Average value ({unit}): {found.average_value:g}")
        say(f"Average time per sample (ms): {found.average_time_value_milliseconds:g}")

    return each(values, act)


def window(one, values, seconds):
    """The made-up samples of a window; the command's own seconds pass as the state scales them."""
    power.stop(one)
    power.choose(one, 0, values.dvm, values.type)
    power.start(one, values.averaging_factor, values.sampling_period)
    time.sleep(seconds * one.command_time_scale)
    found = power.window_of(one, 0, seconds)
    power.stop(one)
    return found


def parse_hef(words):
    """What a HEF holds."""
    options = [option("--parse-streams", flag=True), option("--parse-vstreams", flag=True)]
    values, _ = parse(words, options, option("hef", existing))
    path = Path(values.hef)
    if not path.is_dir():
        describe(values.hef, values.parse_streams)
        return 0
    files = sorted(path.glob("*.hef"))
    if not files:
        fail("HAILO_INVALID_ARGUMENT", f"No HEF files were found in the directory: {path}")
    for file in files:
        say("*" * 80)
        say(f"Parsing {file}:")
        describe(file, values.parse_streams)
    return CODES["HAILO_SUCCESS"]


def describe(path, streams):
    """Print what `parse-hef` prints of one file."""
    found = hef.read(path)
    tab = "    "
    say(f"Architecture HEF was compiled for: {found.architecture}")
    say(f"Network group name: {found.name}, Single Context")
    say(f"{tab}Network name: {found.network}")
    for kind in ("Stream", "VStream") if streams else ("VStream",):
        say(f"{tab * 2}{kind} infos:")
        for one in found.inputs:
            say(f"{tab * 3}Input  {one.name} {hef.shape_text(one)}")
        for one in found.outputs:
            say(f"{tab * 3}Output {one.name} {hef.shape_text(one)}")
