"""Artifact + Device -> Deployment: brought there, its hash read back there, loaded in a process."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.devices import Device, open_device
from edgedeploy.devices.local import LocalDevice, ToolchainHost
from edgedeploy.errors import StorageError
from edgedeploy.records import Artifact, Deployment, Target
from edgedeploy.target import runtime_program
from edgedeploy.toolchain import merged_options
from edgedeploy.worker import Worker
from edgedeploy.workload import Workload

# runs on this host what lies behind an end-node cut
TAIL_RUNTIME = "ort"


@dataclass
class Session:
    """An artifact loaded on a device, in a fresh process that holds only its runtime.

    `tail` serves the nodes behind the end-node cut on this host, where there was one.
    """

    worker: Worker
    device: Device
    deployment: Deployment
    inputs: tuple[str, ...]
    options: dict[str, Any]
    tools: dict[str, str]
    memory_bytes: dict[str, int]
    load_s: float
    tail: Worker | None = None

    def infer(self, inputs: Path, outputs: Path) -> int:
        """Run every sample of an .npz through the artifact; answers how many there were."""
        with tempfile.TemporaryDirectory(prefix="edgedeploy-cut-") as scratch:
            body = outputs if self.tail is None else Path(scratch, "cut.npz")
            with self.device.exchange(inputs, body) as (given, wanted):
                answer = self.worker.call("measure.infer", inputs=given, outputs=wanted)
            self.behind(body, outputs)
        return int(answer["count"])

    def behind(self, body: Path, outputs: Path) -> None:
        """Run what lies behind the cut on what the part before it gave, both as .npz."""
        if self.tail is not None:
            self.tail.call("measure.infer", inputs=str(body), outputs=str(outputs))
        elif body != outputs:
            shutil.copyfile(body, outputs)


@contextmanager
def deployed(
    artifact: Artifact,
    target: Target,
    workload: Workload,
    *,
    device: Device | None = None,
    timeout_s: float = 600.0,
) -> Iterator[Session]:
    """Bring an artifact to its device and load it there, for as long as the block lasts.

    Raises `StorageError` when the hash read on the device is not the artifact's, and whatever the
    runtime says of an artifact it cannot load.
    """
    with ExitStack() as stack:
        device = stack.enter_context(device or open_device(target))
        place, path = artifact_place(device, artifact)
        program = runtime_program(target.profiler)
        worker = stack.enter_context(device.worker(program, timeout_s=timeout_s))
        requested = merged_options(target.run_options, workload.run_options, target)
        options = {**requested, **device.run_options()}
        found = worker.call("serve.artifact_sha256", path=place, options=options)["sha256"]
        if found != artifact.sha256:
            msg = (
                f"{place} on {device.name} has hash {found[:12]}, the artifact's is"
                f" {artifact.sha256[:12]}"
            )
            raise StorageError(msg, hint="It was changed or cut on its way: deploy again.")
        answer = worker.call("measure.prepare", artifact=path, options=options)
        tail = _tail(stack, artifact, timeout_s)
        deployment = Deployment(
            path=path,
            artifact_sha256=artifact.sha256,
            device=device.name,
            transport=device.transport,
            identity=device.identity(),
            deployed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        yield Session(
            worker=worker,
            device=device,
            deployment=deployment,
            inputs=tuple(tensor["name"] for tensor in answer["loaded"]["inputs"]),
            options={
                name: value
                for name, value in answer["loaded"].get("options", {}).items()
                if name not in device.run_options()  # a port is no option that was chosen
            },
            tools=answer["tools"],
            memory_bytes=answer["memory_bytes"],
            load_s=answer["load_s"],
            tail=tail,
        )


def artifact_place(device: Device, artifact: Artifact) -> tuple[str, str]:
    """Bring an artifact to a device: where its file or folder lies there, and its main file."""
    root = Path(artifact.folder or artifact.path)
    place = device.put(root)
    if artifact.folder:
        return place, f"{place}/{Path(artifact.path).relative_to(root).as_posix()}"
    return place, place


def emulated(
    artifact: Artifact, target: Target, workload: Workload, *, timeout_s: float = 600.0
) -> AbstractContextManager[Session]:
    """The artifact in the emulator that its target names, on this host; figures are emulated."""
    assert target.emulator is not None
    here = msgspec.structs.replace(
        target,
        transport="local",
        profiler=target.emulator,
        instruments=(),
        run_options={},
        source="emulated",
    )
    # the options of the device's own runtime are not the emulator's
    plain = msgspec.structs.replace(workload, run_options={})
    return deployed(artifact, here, plain, device=ToolchainHost(), timeout_s=timeout_s)


def _tail(stack: ExitStack, artifact: Artifact, timeout_s: float) -> Worker | None:
    if artifact.tail_path is None:
        return None
    worker = stack.enter_context(
        LocalDevice().worker(runtime_program(TAIL_RUNTIME), timeout_s=timeout_s)
    )
    worker.call("measure.prepare", artifact=artifact.tail_path, options={})
    return worker


def with_facts(deployment: Deployment, facts: dict[str, Any]) -> Deployment:
    """The deployment with what the device said of itself."""
    return msgspec.structs.replace(deployment, facts=facts)
