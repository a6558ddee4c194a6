"""Ship programs and data inside the wheel; an editable install reads them where they lie."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("targets", "compilers", "profilers", "firmware")
# what builds and interpreters leave behind
LEFT = ("build", "managed_components", "__pycache__")


class ShareHook(BuildHookInterface):  # type: ignore[type-arg]
    """Static force-include would leave stale copies in editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        for path in (found for kind in KINDS for found in sorted((root / kind).rglob("*"))):
            name = path.relative_to(root)
            if path.is_file() and not any(p.startswith(".") or p in LEFT for p in name.parts[:-1]):
                build_data["force_include"][str(name)] = f"edgedeploy/_share/{name.as_posix()}"
