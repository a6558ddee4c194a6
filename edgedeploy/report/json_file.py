"""A report as JSON, and the schema of it."""

from typing import Any

import msgspec

from edgedeploy.records import Report


def to_json(report: Report) -> bytes:
    """The report as indented UTF-8 JSON ending in a line feed; reads back as an equal `Report`."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a report: every record below `$defs`."""
    schema = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgedeploy report",
        **schema,
    }
