"""python -m edgedeploy.schemas: write the JSON schemas of reports, targets and inventories."""

import json
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.inventory import InventoryFile
from edgedeploy.records import Target
from edgedeploy.report.json_file import json_schema

ROOT = Path(__file__).resolve().parent.parent


def schemas() -> dict[Path, dict[str, Any]]:
    """Where each schema is kept in the repository, and what it is."""
    target = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgedeploy target",
        **msgspec.json.schema(Target),
    }
    devices = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgedeploy inventory of devices (devices.toml)",
        **msgspec.json.schema(InventoryFile),
    }
    return {
        ROOT / "docs" / "report.schema.json": json_schema(),
        ROOT / "docs" / "devices.schema.json": devices,
        ROOT / "targets" / "target.schema.json": target,
    }


if __name__ == "__main__":
    for path, schema in schemas().items():
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
