"""Ship programs and data inside the wheel; an editable install reads them where they lie."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("targets", "compilers", "profilers", "firmware")


class ShareHook(BuildHookInterface):  # type: ignore[type-arg]
    """Static force-include would leave stale copies in editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for kind in KINDS:
            if (Path(self.root) / kind).is_dir():
                build_data["force_include"][kind] = f"edgedeploy/_share/{kind}"
