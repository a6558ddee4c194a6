"""Each fault of chip, driver, versions and HEF provoked at the stand-in, and its message read."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import hailo_artifacts
import hailort_chip
import hailort_versions
import pytest
from hailo_artifacts import artifact, chips, free
from hailort_faults import BadInput, Failed, Missing, Told, meaning, status_of

board, hailo = hailo_artifacts.board, hailo_artifacts.hailo
RELEASE = "Install the driver, library, firmware and hailo_platform of one HailoRT release"


def refused(hailo: ModuleType, folder: str, kind: type[Told], **options: Any) -> tuple[str, str]:
    """What load() says and what it tells to do; the exception's class is the kind of failure."""
    with pytest.raises(kind) as caught:
        hailo.load(folder, options)
    assert not hailo.state  # nothing is left half loaded
    return str(caught.value), caught.value.hint


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """hailo_platform is imported anew: it reads its version once."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "hailo_platform"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the system tells the driver's version."""
    path = tmp_path / "version"
    path.write_text("4.23.0\n")
    monkeypatch.setattr(hailort_versions, "DRIVER", path)
    return path


def tool(folder: Path, text: str, code: int = 0) -> None:
    """A hailortcli on the PATH that only says this."""
    path = folder / "hailortcli"
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)


def test_without_the_package_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hailo_platform", None)
    module = hailo_artifacts.program("hailo")
    with pytest.raises(Missing, match="hailo_platform cannot be imported") as caught:
        module.probe()
    assert "hailort-4.23.0" in caught.value.hint
    assert "EDGEDEPLOY_PYTHON_RUNTIME_HAILO" in caught.value.hint
    assert refused(module, artifact(tmp_path), Missing)[1] == caught.value.hint


def test_a_library_that_is_not_the_packages_version(
    hailo: ModuleType, board: Path, tmp_path: Path, anew: None
) -> None:
    chips(board, library_version="4.22.0")
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert "libhailort version (4.22.0) does not match pyhailort version (4.23.0)" in told
    assert "install one wheel" in hint


def test_a_driver_of_another_version_is_refused_before_the_chip_is_asked(
    hailo: ModuleType, board: Path, tmp_path: Path, driver: Path
) -> None:
    driver.write_text("4.20.0\n")
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert told == (
        "the driver is version 4.20.0, the HailoRT library 4.23.0: they must be the same"
        " (found: hailort 4.23.0+standin, driver 4.20.0)"
    )
    assert hint.startswith("Install the PCIe driver 4.23.0 (hailort-pcie-driver) and restart")


def test_a_driver_that_only_the_library_knows_to_be_of_another_version(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    chips(board, driver_version="4.20.0")
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert "driver, library and firmware are not of one version (found: hailort 4.23.0+" in told
    assert told.endswith("(status 76, HAILO_INVALID_DRIVER_VERSION)")
    assert hint.startswith(RELEASE)


def test_firmware_of_another_version(hailo: ModuleType, board: Path, tmp_path: Path) -> None:
    chips(board, firmware_version="4.21.0")
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert told.startswith("the firmware is version 4.21.0, the HailoRT library 4.23.0")
    assert "which brings the firmware" in hint
    chips(board, firmware_version="4.23.1")  # the library takes another last number
    assert hailo.load(artifact(tmp_path / "net"), {})["options"]["batch_size"] == 1
    assert hailo.facts()["tools"]["hailo-firmware"] == "4.23.1"


def test_a_command_line_of_another_version(hailo: ModuleType, tmp_path: Path) -> None:
    tool(tmp_path, "HailoRT-CLI version 4.22.0")
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert told.startswith("the hailortcli is version 4.22.0, the HailoRT library 4.23.0")
    assert hint == "Install HailoRT 4.23.0 whole, so that `hailortcli --version` says 4.23.0 too."


def test_a_command_line_that_refuses_its_library(hailo: ModuleType, tmp_path: Path) -> None:
    tool(tmp_path, "libhailort version (4.23.0) does not match HailoRT-CLI version (4.22.0)", 6)
    told, hint = refused(hailo, artifact(tmp_path / "net"), BadInput)
    assert told.startswith("`hailortcli --version` ended with 6 and said: libhailort version (4.23")
    assert "tool and library of one version" in hint


@pytest.mark.parametrize(
    ("compiler", "runtime", "remedy"),
    [
        (
            "3.34.0",
            "4.24.0",
            "Install HailoRT 4.24.0 here (library, driver and firmware) or compile with the"
            " Dataflow Compiler 3.33.",
        ),
        ("5.1.0", "5.1.0", "Install HailoRT 5.1.0 here (library, driver and firmware)."),
    ],
)
def test_a_hef_for_a_later_hailort_is_refused_naming_both(
    hailo: ModuleType, tmp_path: Path, compiler: str, runtime: str, remedy: str
) -> None:
    folder = artifact(tmp_path / "net", compiler=compiler, runtime=runtime)
    told, hint = refused(hailo, folder, BadInput)
    assert told == (
        f"the HEF was made by the Dataflow Compiler {compiler} for HailoRT {runtime}, here is"
        " HailoRT 4.23.0"
    )
    assert hint == remedy


def test_an_older_hef_runs(hailo: ModuleType, tmp_path: Path) -> None:
    folder = artifact(tmp_path / "net", compiler="3.30.0", runtime="4.20.0")
    assert hailo.load(folder, {})["inputs"][0]["name"] == "x"
    assert hailo.facts()["tools"]["hailo-dataflow-compiler"] == "3.30.0"


def test_a_hef_that_is_newer_than_its_model_json_says(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    told, hint = refused(hailo, artifact(tmp_path / "net", header={"hef_version": 4}), BadInput)
    assert "the HEF is not one that this HailoRT reads: it is too new or damaged" in told
    assert "HEF of the Dataflow Compiler 3.33.0 for HailoRT 4.23.0" in told
    assert told.endswith("(status 92, HAILO_HEF_NOT_SUPPORTED)")
    assert hint.startswith("Install HailoRT 4.23.0 here, or compile with the Dataflow Compiler")
    assert free(board)


@pytest.mark.parametrize("kept", [0.5, 0.01])
def test_a_hef_that_was_cut(hailo: ModuleType, tmp_path: Path, kept: float) -> None:
    folder = artifact(tmp_path / "net")
    path = Path(folder, "model.hef")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    told, hint = refused(hailo, folder, BadInput)
    assert "the HEF is damaged: it was cut or changed on its way" in told
    assert "(status 91, HAILO_HEF_FILE_CORRUPTED)" in told
    assert hint.startswith("Compile or copy it again")


def test_a_hef_for_another_chip_is_refused_naming_both(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    chips(board, architecture="HAILO8L")
    told, hint = refused(hailo, artifact(tmp_path / "net"), BadInput)
    assert told == "the HEF is compiled for hailo8, the chip here is hailo8l"
    assert hint == "Compile for hailo8l, or deploy to a machine with a hailo8."


def test_a_hef_for_another_chip_than_its_model_json_says(
    hailo: ModuleType, board: Path, tmp_path: Path
) -> None:
    chips(board, architecture="HAILO8L")
    folder = artifact(tmp_path / "net", hw_arch="hailo8l", header={"hw_arch": "hailo8"})
    told, _ = refused(hailo, folder, BadInput)
    assert "the HEF is for another chip than this hailo8l (its model.json says hailo8l)" in told
    assert told.endswith("(status 93, HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE)")


def test_outputs_that_are_not_those_of_model_json(hailo: ModuleType, tmp_path: Path) -> None:
    first, second = hailo_artifacts.manifest()["outputs"]
    header = hailo_artifacts.hef_header(hailo_artifacts.manifest())
    renamed = [{**first, "layer": "net/nms"}, second]
    other = artifact(tmp_path / "a", outputs=renamed, header=header)
    told, hint = refused(hailo, other, BadInput)
    assert (
        "has outputs ['net/conv1', 'net/fc1'], its model.json says ['net/fc1', 'net/nms']" in told
    )
    assert "not of one compilation" in hint
    wrong = {**second, "shape": [1, 6], "wire_shape": [6]}
    told, hint = refused(hailo, artifact(tmp_path / "b", outputs=[first, wrong]), BadInput)
    assert "'net/fc1' has shape [5] in" in told
    assert told.endswith("its model.json says [6]")
    assert "nms_postprocess" in hint


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "74, HAILO_OUT_OF_PHYSICAL_DEVICES"), ({"device_id": "0000:01:00.0"}, "73, ")],
)
def test_a_chip_in_use_is_told_with_how_to_find_who_has_it(
    hailo: ModuleType, board: Path, tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    chips(board, busy=True)
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing, **options)
    assert told.startswith("taking the chip: the chip is in use by another process (status ")
    assert name in told
    assert "`fuser -v /dev/hailo*` names that process" in hint


def test_no_chip_and_a_chip_that_is_not_there(
    hailo: ModuleType, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = artifact(tmp_path / "net")
    told, _ = refused(hailo, folder, Missing, device_id="0000:07:00.0")
    assert told == "there is no chip '0000:07:00.0' on this machine, found: 0000:01:00.0"
    chips(board, devices=[])
    nodes = tmp_path / "dev"
    monkeypatch.setattr(hailort_chip, "DEVICES", nodes)
    told, hint = refused(hailo, folder, Missing)
    assert told == "HailoRT finds no chip on this machine (no /dev/hailo* is there)"
    assert "lspci" in hint
    assert "`modprobe hailo_pci`" in hint
    nodes.mkdir()
    (nodes / "hailo0").touch()
    assert refused(hailo, folder, Missing)[0].endswith("(its driver is loaded)")


def test_a_device_file_of_others_is_named(
    hailo: ModuleType, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "hailo0"
    node.touch()
    monkeypatch.setattr(hailort_chip, "DEVICES", tmp_path)
    monkeypatch.setattr(hailort_chip.os, "access", lambda path, mode: path != str(node))
    told, hint = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert told.startswith(f"{node} cannot be opened by this user (uid ")
    assert "add the user to that group" in hint


def test_permission_denied_by_the_library_itself(
    hailo: ModuleType, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hailo.probe()
    real = sys.modules["hailo_platform"].VDevice

    class Denied:
        create_params = staticmethod(real.create_params)

        def __init__(self, *_: object) -> None:
            raise PermissionError(13, "Permission denied", "/dev/hailo0")

    monkeypatch.setattr(sys.modules["hailo_platform"], "VDevice", Denied)
    told, _ = refused(hailo, artifact(tmp_path / "net"), Missing)
    assert told.startswith("/dev/hailo0 cannot be opened by this user")


class HailoRTStatusException(Exception):
    """As the binding's compiled part raises it."""


class HailoRTException(Exception):
    """As the binding's Python part raises it."""


class HailoRTTimeout(HailoRTException):
    """As the binding's Python part raises it for one status."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HailoRTStatusException("76"), "HAILO_INVALID_DRIVER_VERSION"),
        (HailoRTStatusException("99"), "HAILO_STATUS_99"),
        (
            HailoRTException("libhailort failed with error: 73 (HAILO_DEVICE_IN_USE)"),
            "HAILO_DEVICE",
        ),
        (HailoRTTimeout("Received a timeout"), "HAILO_TIMEOUT"),
        (HailoRTException("Buffer must be C_CONTIGUOUS"), "HAILO_INTERNAL_FAILURE"),
        (ValueError("HAILO_TIMEOUT"), ""),
    ],
)
def test_the_status_is_read_out_of_whatever_the_binding_raises(
    error: Exception, status: str
) -> None:
    found = status_of(error)
    assert found.startswith(status)
    assert bool(found) == bool(status)


def test_a_status_that_is_not_known_keeps_what_was_said() -> None:
    told = meaning("HAILO_STATUS_99", "running", {}, "strange")
    assert type(told) is Failed
    assert str(told) == "running: HailoRT failed (HAILO_STATUS_99) strange"
    assert "dmesg" in told.hint
