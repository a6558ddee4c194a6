"""Versions that must fit together: driver, library, firmware, command line, HEF, compiler."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hailort_faults import BadInput, Missing

if TYPE_CHECKING:
    from types import ModuleType

    Numbers = tuple[int, ...]

DRIVER = Path("/sys/module/hailo_pci/version")
WHERE = (
    "Install HailoRT 4.23 with its Python wheel (hailort-4.23.0-cp3…, from the vendor's developer"
    " zone; on Raspberry Pi OS `sudo apt install hailo-all`) and name that Python in"
    " EDGEDEPLOY_PYTHON_RUNTIME_HAILO, or as `python` of the host in devices.toml."
)
# The compiler of a release and the runtime of the same one: 3.33 and 4.23, ten minors apart.
MINORS_APART = 10
COMPILER_MAJOR = 3


def library() -> ModuleType:
    """The package hailo_platform; raises `Missing`, also where its halves differ."""
    # else it leaves a hailort.log in whatever folder this is, and one in the user's home
    os.environ.setdefault("HAILORT_LOGGER_PATH", "NONE")
    try:
        return importlib.import_module("hailo_platform")
    except ImportError as error:
        if "does not match" in str(error):
            msg = f"HailoRT's Python package is of two versions: {error}"
            hint = "Uninstall it and install one wheel, of the version of the library and driver."
            raise Missing(msg, hint) from error
        msg = f"HailoRT's Python package hailo_platform cannot be imported: {error}"
        raise Missing(msg, WHERE) from error


def plain(version: str) -> str:
    """A version without its local part: what is compared."""
    return version.partition("+")[0]


def is_standin(version: str) -> bool:
    """Whether this is a stand-in for the vendor's package, which its local part says."""
    return "standin" in version.partition("+")[2]


def numbers(version: str) -> Numbers:
    """The three numbers that a version begins with, wherever in the text it stands."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def driver() -> str | None:
    """The version of the driver that is loaded; None where the system does not tell."""
    try:
        return DRIVER.read_text(encoding="ascii", errors="replace").strip() or None
    except OSError:
        return None


def firmware(said: object) -> str:
    """The version in what the chip says of its firmware: "4.23.0 (release,app,…)"."""
    return ".".join(str(part) for part in numbers(str(said)))


def partner(runtime: str) -> str:
    """The compiler of the same release as a runtime: "3.33" of "4.23.0"."""
    minor = numbers(runtime)[1]
    return f"{COMPILER_MAJOR}.{minor + MINORS_APART}"


def listed(found: dict[str, str | None]) -> str:
    """Versions as a person reads them."""
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def check_installed(found: dict[str, str | None]) -> None:
    """Raise `Missing` where what is installed here is not of one release.

    Driver and command line must be the library's version to the last number, the firmware to the
    second: that is what the library itself asks for. A version that is not known is let pass.
    """
    wanted = plain(found["hailort"] or "")
    for name, digits in (("driver", 3), ("firmware", 2), ("hailortcli", 3)):
        version = found.get(name)
        if version and numbers(version)[:digits] != numbers(wanted)[:digits]:
            msg = (
                f"the {name} is version {plain(version)}, the HailoRT library {wanted}: they must"
                f" be the same (found: {listed(found)})"
            )
            raise Missing(msg, remedy(name, wanted))


def remedy(name: str, wanted: str) -> str:
    """How `name` is brought to the library's version."""
    if name == "driver":
        return (
            f"Install the PCIe driver {wanted} (hailort-pcie-driver) and restart, or install the"
            " library of the driver's version."
        )
    if name == "firmware":
        return (
            f"Install the PCIe driver {wanted}, which brings the firmware, and restart the machine:"
            " the firmware is loaded when it starts."
        )
    return f"Install HailoRT {wanted} whole, so that `hailortcli --version` says {wanted} too."


def check_artifact(library_version: str, compiler: str, runtime: str) -> None:
    """Raise `BadInput` where the HEF was made for another or a later HailoRT than the one here."""
    here, needed = numbers(plain(library_version)), numbers(runtime)
    if not needed or here[0] != needed[0] or here[:2] < needed[:2]:
        wanted = plain(library_version)
        msg = (
            f"the HEF was made by the Dataflow Compiler {compiler} for HailoRT {runtime}, here is"
            f" HailoRT {wanted}"
        )
        same = here[:1] == needed[:1]
        compile_with = f" or compile with the Dataflow Compiler {partner(wanted)}" if same else ""
        hint = f"Install HailoRT {runtime} here (library, driver and firmware){compile_with}."
        raise BadInput(msg, hint)
