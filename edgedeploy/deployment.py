"""Artifact + Device -> Deployment: brought there, its hash read back there, loaded in a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.compile import merged_options
from edgedeploy.devices import Device, open_device
from edgedeploy.errors import StorageError
from edgedeploy.records import Artifact, Deployment, Target
from edgedeploy.target import runtime_program
from edgedeploy.worker import Worker
from edgedeploy.workload import Workload


@dataclass
class Session:
    """An artifact loaded on a device, in a fresh process that holds only its runtime."""

    worker: Worker
    device: Device
    deployment: Deployment
    inputs: tuple[str, ...]
    options: dict[str, Any]
    tools: dict[str, str]
    memory_bytes: dict[str, int]
    load_s: float

    def infer(self, inputs: Path, outputs: Path) -> int:
        """Run every sample of an .npz through the artifact; answers how many there were."""
        answer = self.worker.call("measure.infer", inputs=str(inputs), outputs=str(outputs))
        return int(answer["count"])


@contextmanager
def deployed(
    artifact: Artifact, target: Target, workload: Workload, *, timeout_s: float = 600.0
) -> Iterator[Session]:
    """Bring an artifact to its device and load it there, for as long as the block lasts.

    Raises `StorageError` when the hash read on the device is not the artifact's, and whatever the
    runtime says of an artifact it cannot load.
    """
    device = open_device(target)
    root = Path(artifact.folder or artifact.path)
    place = device.put(root)
    path = place
    if artifact.folder:
        path = f"{place}/{Path(artifact.path).relative_to(root).as_posix()}"
    with device.worker(runtime_program(target.profiler), timeout_s=timeout_s) as worker:
        found = worker.call("serve.sha256", path=place)["sha256"]
        if found != artifact.sha256:
            msg = (
                f"{place} on {device.name} has hash {found[:12]}, the artifact's is"
                f" {artifact.sha256[:12]}"
            )
            raise StorageError(msg, hint="It was changed or cut on its way: deploy again.")
        requested = merged_options(target.run_options, workload.run_options, target)
        answer = worker.call("measure.prepare", artifact=path, options=requested)
        deployment = Deployment(
            path=path,
            artifact_sha256=artifact.sha256,
            device=device.name,
            transport=device.transport,
            deployed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        yield Session(
            worker=worker,
            device=device,
            deployment=deployment,
            inputs=tuple(tensor["name"] for tensor in answer["loaded"]["inputs"]),
            options=answer["loaded"].get("options", {}),
            tools=answer["tools"],
            memory_bytes=answer["memory_bytes"],
            load_s=answer["load_s"],
        )


def with_facts(deployment: Deployment, facts: dict[str, Any]) -> Deployment:
    """The deployment with what the device said of itself."""
    return msgspec.structs.replace(deployment, facts=facts)
