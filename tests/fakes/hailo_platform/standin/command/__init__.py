"""The command `hailortcli`: which subcommand is asked for, and what its status is to the shell."""

import sys

from hailo_platform.standin import chip
from hailo_platform.standin.command import bench, devices, run, run2
from hailo_platform.standin.command.arguments import Refused, first
from hailo_platform.standin.status import CODES, NAMES, HailoRTStatusException, log

SUBCOMMANDS = {
    "run": run.main,
    "run2": run2.main,
    "scan": devices.scan,
    "benchmark": bench.main,
    "measure-power": devices.measure_power,
    "parse-hef": devices.parse_hef,
    "fw-control": devices.fw_control,
}
# the real command has these too
ABSENT = ("sensor-config", "fw-config", "fw-logger", "fw-update", "ssb-update", "monitor")
LOGGER = "HailoRT CLI"


def main(words):
    """The exit code: 0, a status of the library, or the argument parser's own."""
    library = chip.machine().library_version
    if library != chip.VERSION:
        sys.stderr.write(
            f"libhailort version ({library}) does not match HailoRT-CLI version ({chip.VERSION})\n"
        )
        return 255
    if words and words[0] in ("-v", "--version"):
        sys.stdout.write(f"HailoRT-CLI version {chip.VERSION}{chip.LOCAL}\n")
        return 0
    try:
        name, rest = first(words, SUBCOMMANDS, ABSENT)
        return SUBCOMMANDS[name](rest)
    except Refused as refusal:
        sys.stderr.write(f"{refusal}\nRun with --help for more information.\n")
        return refusal.code
    except HailoRTStatusException as error:
        code = int(error.args[0])
        log("error", f"CHECK_SUCCESS failed with status={NAMES[code]}({code})", LOGGER)
        return code or CODES["HAILO_UNINITIALIZED"]
