"""A compiler that runs beside the device, because only there its toolchain and chip are."""

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.cache import STORAGE_HINT, storage_error
from edgedeploy.devices import open_device
from edgedeploy.digest import files_sha256
from edgedeploy.errors import MissingError, StorageError, WorkerError
from edgedeploy.inventory import lacks_host
from edgedeploy.records import Target
from edgedeploy.share import program_files


class CompilerThere:
    """A compiler program served on the host of a target's device.

    What it makes comes back as an archive, so that the record of it lies here. Raises
    `MissingError` where no host is named.
    """

    def __init__(self, target: Target, program: Path) -> None:
        if target.transport == "ssh" and not target.device_options.get("ssh", {}).get("host"):
            msg = "a host for this target: its compiler runs beside the device, and none is named"
            raise MissingError(msg, hint=lacks_host(target))
        self._target = target
        self._program = program

    def parts(self, options: dict[str, Any]) -> dict[str, str]:
        """Parts of a cache key: the device, and the toolchain's versions as it tells them."""
        with open_device(self._target) as device, device.worker(self._program) as worker:
            tools = worker.call("probe")["tools"]
            identity = device.identity()
        return {
            "options": msgspec.json.encode(options, order="sorted").decode(),
            "program": files_sha256(program_files(self._program)),
            "device": identity,
            **{f"tool {name}": version for name, version in tools.items()},
        }

    def compile_model(self, model: Path, folder: Path, **asked: Any) -> dict[str, Any]:
        """`compile_model` of the program on the device's host; its files come into `folder`."""
        asked.pop("states", None)
        with (
            tempfile.TemporaryDirectory(prefix="edgedeploy-there-") as scratch,
            open_device(self._target) as device,
            device.worker(self._program) as worker,
        ):
            archive = Path(scratch, "made.zip")
            with device.exchange(model, archive) as (given, wanted):
                answer = worker.call("build.compile_packed", model=given, packed=wanted, **asked)
            log, meta = worker.log(), worker.meta
            _unpack(archive, folder, log)
        for key in ("path", "kept"):
            if answer.get(key) is None:
                continue
            place = folder / str(answer[key])
            if not place.resolve().is_relative_to(folder.resolve()):
                msg = f"{self._program.stem} answered {answer[key]}, which is not what it sent"
                raise WorkerError(msg, hint="Its log is in the row.", log=log)
            answer[key] = str(place)
        return {**answer, "log": log, "worker": meta}


def _unpack(archive: Path, folder: Path, log: str) -> None:
    """What came, into `folder`: it may be no archive, or more than this disk takes."""
    try:
        with zipfile.ZipFile(archive) as packed:
            size = sum(each.file_size for each in packed.infolist())
            free = shutil.disk_usage(folder).free
            if size > free:
                msg = f"{folder}: what was compiled needs {size:,} bytes, {free:,} are free"
                raise StorageError(msg, hint=STORAGE_HINT, log=log)
            packed.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as err:
        msg = f"what the compiler there sent cannot be unpacked: {err}"
        raise WorkerError(msg, hint="Its log is in the row.", log=log) from err
    except OSError as err:
        raise storage_error(err, folder) from err
