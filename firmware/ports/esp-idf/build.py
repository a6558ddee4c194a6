"""Builds the firmware for a board with ESP-IDF: build.sh esp32s3."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent
FIRMWARE = PROJECT.parents[1]
OLDEST = (5, 3)
IMAGE = "espressif/idf:release-v5.4"
ENGINES = ("docker", "podman")
UNKNOWN, MISSING = 2, 3
GUIDE = "docs.espressif.com/projects/esp-idf/en/stable/esp32s3/get-started"


class Board(NamedTuple):
    """A target of the toolkit: its chip, and the settings that come on top of the chip's."""

    chip: str
    settings: tuple[str, ...] = ()


BOARDS = {
    "esp32s3": Board("esp32s3"),
    "esp32s3-n16r8": Board("esp32s3", ("sdkconfig.16mb",)),
    "esp32p4": Board("esp32p4"),
}


class MissingToolError(Exception):
    """What is not there, and what helps."""


class UnknownBoardError(Exception):
    """A target that ESP-IDF builds nothing for."""


class Way(NamedTuple):
    """How idf.py is reached: what stands before its arguments, and the folders as it sees them."""

    name: str
    prefix: tuple[str, ...]
    project: Path
    build: Path


def found_here(build: Path) -> Way | None:
    """ESP-IDF of this host: on PATH, or where IDF_PATH says."""
    if shutil.which("idf.py"):
        return Way("idf.py on PATH", ("idf.py",), PROJECT, build)
    folder = os.environ.get("IDF_PATH")
    if folder is None:
        return None
    export = Path(folder) / "export.sh"
    if not export.is_file():
        msg = f"IDF_PATH is {folder}, and there is no export.sh in it: is that ESP-IDF?"
        raise MissingToolError(msg)
    script = f'. {shlex.quote(str(export))} > /dev/null && exec idf.py "$@"'
    return Way(f"ESP-IDF in {folder}", ("bash", "-c", script, "idf.py"), PROJECT, build)


def container(build: Path) -> Way:
    """Espressif's image, by the container engine that is here."""
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        msg = "CONTAINER=1 was given, and neither docker nor podman is on PATH"
        raise MissingToolError(msg)
    build.mkdir(parents=True, exist_ok=True)
    inside = Path("/firmware"), Path("/build")
    prefix = (
        *(engine, "run", "--rm", "-v", f"{FIRMWARE}:{inside[0]}", "-v", f"{build}:{inside[1]}"),
        *("-u", f"{os.getuid()}:{os.getgid()}", "-e", "HOME=/tmp"),
        *(os.environ.get("IDF_IMAGE", IMAGE), "idf.py"),
    )
    return Way(f"{engine} run", prefix, inside[0] / "ports/esp-idf", inside[1])


def check_version(way: Way) -> None:
    """Raises `MissingToolError` where ESP-IDF does not start or is too old."""
    done = subprocess.run([*way.prefix, "--version"], capture_output=True, text=True, check=False)
    said = re.search(r"v(\d+)\.(\d+)", done.stdout + done.stderr)
    if done.returncode or said is None:
        first = (done.stderr or done.stdout).strip().splitlines()[:1] or ["no output"]
        msg = f"{way.name} does not start (exit code {done.returncode}): {first[0]}"
        raise MissingToolError(msg)
    if (int(said[1]), int(said[2])) < OLDEST:
        msg = f"{way.name} is version {said[1]}.{said[2]}, expected 5.3 or later"
        raise MissingToolError(msg)


def arguments(way: Way, board: Board, line: str) -> list[str]:
    """Of idf.py: everything it makes goes to the build folder."""
    settings = ["sdkconfig.defaults", *board.settings]
    if line == "uart":
        settings.append("sdkconfig.uart")
    return [
        *("-C", str(way.project), "-B", str(way.build)),
        *("-D", f"IDF_TARGET={board.chip}", "-D", f"SDKCONFIG={way.build / 'sdkconfig'}"),
        *("-D", f"SDKCONFIG_DEFAULTS={';'.join(settings)}", "build"),
    ]


def known(name: str) -> Board:
    """The board of a target. Raises `UnknownBoardError`."""
    if name in BOARDS:
        return BOARDS[name]
    target = FIRMWARE.parent / "targets" / f"{name}.toml"
    text = target.read_text(encoding="utf-8") if target.is_file() else ""
    if re.search(r'^transport = "qemu"', text, re.MULTILINE):
        msg = f"{name} is a virtual board: its firmware is built on demand by `edgedeploy deploy`"
        raise UnknownBoardError(msg)
    what = "has no firmware" if text else "is not known"
    msg = f"target {name!r} {what}; ESP-IDF builds firmware for {', '.join(sorted(BOARDS))}"
    raise UnknownBoardError(msg)


def build(board: Board, folder: Path, line: str) -> None:
    """Build into `folder`. Raises `MissingToolError`, `CalledProcessError`."""
    way = container(folder) if os.environ.get("CONTAINER") == "1" else found_here(folder)
    if way is None:
        msg = "idf.py is not on PATH and IDF_PATH is not set"
        raise MissingToolError(msg)
    check_version(way)
    subprocess.run([*way.prefix, *arguments(way, board, line)], check=True)


def main() -> int:
    """0 done, 1 the build failed, 2 bad arguments, 3 ESP-IDF is missing."""
    parser = argparse.ArgumentParser(prog="build.sh", description=__doc__)
    parser.add_argument("board", help=", ".join(sorted(BOARDS)))
    parser.add_argument("--line", choices=("usb", "uart"), default="usb", help="line to the host")
    parser.add_argument("--build", type=Path, help="folder for what is built")
    chosen = parser.parse_args()
    folder = chosen.build or PROJECT / "build" / chosen.board
    try:
        build(known(chosen.board), folder.resolve(), chosen.line)
    except UnknownBoardError as error:
        print(error, file=sys.stderr)
        return UNKNOWN
    except MissingToolError as error:
        print(
            f"{error}\n"
            f"This firmware needs ESP-IDF 5.3 or later: install it ({GUIDE}) and run its\n"
            f"export.sh, or set IDF_PATH, or let a container do it: CONTAINER=1 with docker or "
            f"podman.",
            file=sys.stderr,
        )
        return MISSING
    except subprocess.CalledProcessError as error:
        print(f"idf.py ended with exit code {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
