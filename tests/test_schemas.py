"""The published schemas are those of the records, and real files hold to the records."""

import json
import tomllib
from pathlib import Path

import pytest

from edgedeploy.records import Report, Row, Target
from edgedeploy.schemas import schemas
from edgedeploy.target import load_target, target_files


@pytest.mark.parametrize("path", schemas(), ids=lambda path: path.name)
def test_published_schema_is_current(path: Path) -> None:
    current = json.loads(json.dumps(schemas()[path]))
    assert json.loads(path.read_text()) == current, "run `make schema`"


def test_report_schema_names_every_field() -> None:
    report = next(s for p, s in schemas().items() if p.name == "report.schema.json")
    definitions = report["$defs"]
    for record in (Report, Row):
        assert set(definitions[record.__name__]["properties"]) == set(record.__struct_fields__)
    assert definitions["Figure"]["required"] == ["value", "unit"]


@pytest.mark.parametrize("name", sorted(target_files()))
def test_targets_are_data_of_known_keys(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    keys = tomllib.loads(target_files()[name].read_text())
    assert set(keys) <= set(Target.__struct_fields__)
    assert all(fact.source for fact in target.facts), "a datasheet fact names its source"
