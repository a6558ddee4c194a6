"""Lines that each damage in their own way: the right figures, or an error by name."""

import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_board
import numpy as np
import pytest
from esp_line import Missing, Refused, Stalled, StartedOver, Unplugged, WrongAnswer
from fake_board import LAYOUT, FakeBoard, write_espdl
from faulty_line import FaultyLine, schedule

TYPED = (Missing, Refused, Stalled, StartedOver, Unplugged, WrongAnswer)
LONGEST_S = 20.0
INPUTS = {
    "image": np.linspace(-4, 4, 60, dtype=np.float32).reshape(1, 3, 4, 5),
    "state": np.linspace(-9, 9, 6, dtype=np.float32).reshape(1, 6),
}


def story(program: ModuleType, artifact: str, port: str) -> dict[str, Any]:
    """All that a session does."""
    options = {"port": port, "timeout_s": 0.15, "retries": 4}
    try:
        found = {"sha256": program.artifact_sha256(artifact, options)}
        program.load(artifact, options)
        found["run"] = program.run(INPUTS)
        found["timed"] = program.timed(INPUTS, 1, 20)
        found["layers"] = program.layers(INPUTS, 2)
        found["memory"] = program.memory()
        return found
    finally:
        program.close()


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted["run"].items():
        assert np.array_equal(found["run"][name], value)
    assert {**found["timed"], "notes": []}["cycles"] == wanted["timed"]["cycles"]
    for part in ("sha256", "layers", "memory"):
        assert found[part] == wanted[part]


@pytest.fixture
def artifact(tmp_path: Path) -> str:
    return str(write_espdl(tmp_path / "model.espdl", {"edgedeploy": json.dumps(LAYOUT)}))


def test_faulty_lines_give_the_right_figures_or_an_error_by_name(
    tiny: ModuleType, artifact: str
) -> None:
    data = Path(artifact).read_bytes()
    with FakeBoard(data) as board:
        wanted = story(tiny.program("profilers/runtime", "esp_serial"), artifact, board.port)

    def one(seed: int) -> str:
        program = tiny.program("profilers/runtime", "esp_serial")
        draw = random.Random(seed)
        gap, cuts = 10 ** draw.uniform(1.3, 3.4), draw.choice([0.0, 0.0, 0.1])
        faults = [
            schedule(f"{seed} {side}", gap, delay_ms=300, cuts=cuts) for side in ("board", "host")
        ]
        start, hint = time.monotonic(), "none needed"
        with (
            FakeBoard(data) as board,
            FaultyLine(board.port, to_board=faults[0], to_host=faults[1]) as line,
        ):
            try:
                found = story(program, artifact, line.port)
            except TYPED as error:
                outcome, hint = type(error).__name__, error.hint
            else:
                timed = found["timed"]["cycles"]
                assert set(timed) == {fake_board.TICKS}
                if len(timed) < 20:
                    assert f"{len(timed)} of 20 inferences" in found["timed"]["notes"][0]
                    found["timed"]["cycles"] = wanted["timed"]["cycles"]
                same(found, wanted)
                outcome = "right" if line.happened else "unharmed"
        assert hint
        assert time.monotonic() - start < LONGEST_S
        return outcome

    with ThreadPoolExecutor(16) as pool:
        outcomes = Counter(pool.map(one, range(80)))
    print(dict(outcomes))
    assert sum(outcomes.values()) == 80
    assert outcomes["right"] > 20
    assert outcomes["Stalled"] > 8
