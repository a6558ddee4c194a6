"""The layers of an engine, as the builder's log tells them: no driver is needed for that."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Table = dict[str, Any]

# what begins a text of the log that lists them: in detail, or by name and tactic alone
MARKS = ("Layers:", "Engine Layer Information:")
DETAILED = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), (?P<rest>.*)$")
SHORT = re.compile(r"^Layer\((?P<kind>[^)]*)\): (?P<name>.*?), Tactic: ")
ENDS = re.compile(r"(Inputs|Constants|Outputs): \[ \{")
TYPE = re.compile(r"datatype: (\w+)")
SOURCE = re.compile(r"\[ONNX Layer: (.*?)\](?=\x1f?\[ONNX Layer: |\x1f?$)")
WIDE = {"float": "float32", "half": "float16"}
# kernels that are generated for what lies between the products
GENERATED = "kgen"


def layers_in(text: str) -> list[Table]:
    """Each layer of an engine: `name`, `kind`, and, where the log goes into detail, the types of
    its `inputs`, `constants` and `outputs` and the names of the ONNX nodes in it, `nodes`.
    """
    found = []
    for raw in text.splitlines():
        line = raw.strip()
        short, match = SHORT.match(line), DETAILED.match(line)
        if short:
            found.append({"name": short["name"], "kind": short["kind"]})
        elif match:
            rest, _, metadata = match["rest"].partition(", Metadata: ")
            parts = ENDS.split(rest)[1:]
            found.append(
                {
                    "name": match["name"],
                    "kind": match["kind"],
                    **{
                        parts[place].lower(): [
                            WIDE.get(kind, kind) for kind in TYPE.findall(parts[place + 1].lower())
                        ]
                        for place in range(0, len(parts), 2)
                    },
                    "nodes": SOURCE.findall(metadata),
                }
            )
        elif found and line.startswith(("I/O Tensors:", "Bindings:")):
            break
    return found


def counted(layers: list[Table]) -> Table:
    """How many layers of each kind, and what goes into those that are not generated, by type."""
    products = [layer for layer in layers if layer["kind"] != GENERATED]
    taken = Counter(types[0] for types in (each.get("inputs") for each in products) if types)
    return {
        "engine_kinds": dict(Counter(layer["kind"] for layer in layers).most_common()),
        "engine_inputs": dict(taken.most_common()),
    }
