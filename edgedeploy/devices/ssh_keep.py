"""The session that keeps a device for one run, and files over there."""

import contextlib
import getpass
import hashlib
import os
import select
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgedeploy.cache import storage_error
from edgedeploy.devices.ssh_link import Link
from edgedeploy.digest import file_sha256
from edgedeploy.errors import EdgeDeployError, MissingError, StorageError

CHUNK = 1 << 16
# A run that was just ended may still be leaving.
LOCK_WAIT_S = 2.0


class Keeper(Link):
    """Files by their hash, on the other host; `sent_bytes` counts what was not there yet."""

    sent_bytes = 0

    def lock(self, names: list[str], ports: list[str]) -> None:
        """Keep other runs, of any user, from what is named; `MissingError` says who has it."""
        asker = f"{getpass.getuser()}@{socket.gethostname()}"
        try:
            self.call("lock", names=names, ports=ports, asker=asker, wait_s=LOCK_WAIT_S)
        except MissingError as err:
            msg = f"{self.name}: {err.message}"
            raise MissingError(msg, hint=err.hint) from None

    def tree(self, files: dict[str, Path], *, strict: bool) -> str:
        """The folder over there that holds these files, by their path in it; sends what lacks.

        With `strict` it holds nothing else.
        """
        known = {name: (file_sha256(path, memo=False), path) for name, path in files.items()}
        listed = [[name, sha256, path.stat().st_size] for name, (sha256, path) in known.items()]
        answer = self.call("tree", files=listed, strict=strict)
        if "missing" in answer:
            by_hash = {sha256: path for sha256, path in known.values()}
            for sha256, _ in answer["missing"]:
                self.upload(by_hash[sha256], sha256)
            answer = self.call("tree", files=listed, strict=strict)
        if "path" not in answer:
            msg = f"{self.name}: what was just sent is not there any more"
            raise StorageError(msg, hint="Is another program clearing that folder?")
        return str(answer["path"])

    def upload(self, path: Path, sha256: str) -> None:
        """Send a file into the store over there, on from where an earlier attempt ended."""
        size = path.stat().st_size
        for attempt in range(2):
            offset = int(self.call("upload", sha256=sha256, size=size)["from"])
            self._called = f"the transfer of {path.name}"
            try:
                self._pour(path, offset, size)
                answer = self.finish()
                if answer.get("stop"):
                    self.finish()
                return
            except DamagedError as err:
                # what an earlier attempt left was not what it seemed; it is gone now
                if attempt or not offset:
                    msg = f"{path} changed while it was sent to {self.options.host}"
                    raise StorageError(msg, hint="Is something still writing to it?") from err

    def _pour(self, path: Path, offset: int, size: int) -> None:
        poll = select.poll()
        poll.register(self._said, select.POLLIN)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                while offset < size and not self._answered(poll):
                    block = file.read(min(CHUNK, size - offset))
                    if not block:  # cut meanwhile: the other end counts
                        break
                    self._send(b"%d\n" % len(block) + block)
                    offset += len(block)
                    self.sent_bytes += len(block)
        except OSError as err:
            raise storage_error(err, path) from err
        self._send(b"0\n")

    def _answered(self, poll: select.poll) -> bool:
        """Whether the other end says something, and not just that it is there."""
        if poll.poll(0):
            self._take(self._said)
        return bool(self._rest.strip(b"\n"))

    @contextlib.contextmanager
    def exchange(self, given: Path, wanted: Path | None) -> Iterator[tuple[str, str]]:
        """See `Device.exchange`."""
        sha256 = file_sha256(given, memo=False)
        self.upload(given, sha256)
        name = wanted.name if wanted else ""
        place = self.call("exchange", sha256=sha256, given=given.name, wanted=name)
        try:
            yield place["given"], place["wanted"]
            if wanted:
                self.download(place["wanted"], wanted)
        finally:
            with contextlib.suppress(EdgeDeployError):  # goes with the session
                self.call("drop", folder=place["folder"], timeout_s=30)

    def download(self, source: str, path: Path) -> None:
        """Bring a file here, checked by its hash; nothing is at `path` before it is whole."""
        self.start("download", path=source)
        size = int(self.finish()["size"])
        self._called = f"the transfer of {path.name}"
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            digest, count, problem = hashlib.sha256(), 0, None
            with os.fdopen(number, "wb") as file:
                for block in self._chunks():
                    digest.update(block)
                    count += len(block)
                    if count > size:  # and it may never end
                        self._kill()
                        break
                    problem = problem or _written(file, block)
            answer = self.finish() if count <= size else {}
            if problem:
                raise storage_error(problem, path) from problem
            if count != size or answer["sha256"] != digest.hexdigest():
                msg = f"{source} on {self.options.host} came damaged: {count} of {size} bytes"
                raise StorageError(msg, hint="Is something still writing to it? Run again.")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _chunks(self) -> Iterator[bytes]:
        """Counted bytes as far_keep.Out sends them."""
        limit_s = self.timeout_s
        while True:
            left = int(self._line(_deadline(limit_s), limit_s))
            if left == 0:
                return
            while left:
                if not self._rest:
                    self._await()
                block = bytes(self._rest[:left])
                del self._rest[: len(block)]
                left -= len(block)
                yield block

    def _await(self) -> None:
        poll = select.poll()
        poll.register(self._said, select.POLLIN)
        while not poll.poll(1000):
            self._check_silence()
        self._take(self._said)

    def _failure(self, error: dict[str, Any]) -> EdgeDeployError:
        hint, message = str(error.get("hint", "")), str(error.get("message", ""))
        log = str(error.get("traceback", ""))
        if error.get("kind") == "damaged":
            return DamagedError(message)
        kind = MissingError if error.get("kind") == "missing" else StorageError
        if kind is StorageError:
            message = f"{self.name}: {message}"
        return kind(message, hint=hint or self._remedy(kind), log=log)


class DamagedError(EdgeDeployError):
    """What arrived is not what was sent."""


def _written(file: BinaryIO, block: bytes) -> OSError | None:
    try:
        file.write(block)
    except OSError as err:
        return err
    return None


def _deadline(limit_s: float) -> float:
    return time.monotonic() + limit_s
