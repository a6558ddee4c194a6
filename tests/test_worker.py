"""Workers: what a program answers, raises, prints or gets wrong reaches the one who asked."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from misbehaving import PROGRAM, gone, served

from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.worker import SERVE, Worker

CODES: dict[type[EdgeDeployError], int] = {
    MissingError: 3,
    UnsupportedError: 4,
    InputError: 2,
    StorageError: 1,
    WorkerError: 1,
}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


@pytest.fixture
def worker(program: Path) -> Iterator[Worker]:
    with served(program) as found:
        yield found


@pytest.mark.parametrize(
    ("function", "kind", "message", "hint"),
    [
        ("missing", MissingError, "no vendor SDK", "EDGEDEPLOY_PYTHON_VENDOR"),
        ("hinted", MissingError, "no board", "plug it in"),
        ("absent_module", MissingError, "No module named 'a_vendor_sdk", "doctor"),
        ("unsupported", UnsupportedError, "operator Foo is not known", "another target"),
        ("bad_input", InputError, "the option is wrong", "Correct what it names"),
        ("full", StorageError, "vendor: OSError: [Errno 28] No space left", "Free space"),
        ("other", WorkerError, "vendor: KeyError: 'weights'", "traceback"),
        ("odd", WorkerError, "vendor: Odd: odd", "traceback"),
        ("leaves", WorkerError, "vendor: SystemExit: out of licence", "traceback"),
        ("leaves_quietly", WorkerError, "vendor: SystemExit: 0", "traceback"),
        ("nowhere", WorkerError, "vendor.py has no function nowhere", "traceback"),
        ("not_json", WorkerError, "Object of type object is not JSON", "traceback"),
    ],
)
def test_what_a_program_raises_is_typed(
    worker: Worker, function: str, kind: type[EdgeDeployError], message: str, hint: str
) -> None:
    with pytest.raises(EdgeDeployError) as caught:
        worker.call(function)
    assert type(caught.value) is kind
    assert caught.value.exit_code == CODES[kind]
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "Traceback" in caught.value.log
    # what was raised broke nothing: the same process answers on
    assert worker.call("probe") == {"tools": {"vendor": "1.2"}}


def test_an_answer_tells_python_and_peak_memory(worker: Worker) -> None:
    worker.call("probe")
    assert worker.meta["python"] == sys.version.split()[0]
    assert 4e6 < worker.meta["peak_memory_bytes"] < 1e9


def test_a_syntax_error_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def probe(:\n")
    with served(broken) as worker, pytest.raises(WorkerError, match="broken: SyntaxError"):
        worker.call("probe")
    with (
        served(tmp_path / "absent.py") as worker,
        pytest.raises(WorkerError, match=r"absent: FileNotFoundError.*absent\.py"),
    ):
        worker.call("probe")
    text = tmp_path / "notes.txt"
    text.write_text("")
    with served(text) as worker, pytest.raises(WorkerError, match="is not a Python file"):
        worker.call("probe")


def test_an_interpreter_that_is_none(program: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="cannot be started: No such file") as caught:
        Worker("vendor", [str(tmp_path / "python"), str(SERVE), str(program)])
    assert "doctor" in caught.value.hint
    with (
        Worker("vendor", ["true"]) as worker,
        pytest.raises(WorkerError, match="vendor ended with exit code 0 during probe"),
    ):
        worker.call("probe")
    with (
        Worker("vendor", [sys.executable, "-c", "print('hello')"]) as worker,
        pytest.raises(WorkerError, match="answered 'hello' to probe, expected a JSON object"),
    ):
        worker.call("probe")


def test_printing_is_harmless(worker: Worker) -> None:
    assert worker.call("prints") == {"printed": True}
    assert worker.call("probe")["tools"] == {"vendor": "1.2"}
    log = worker.log()
    for said in ("to stdout, no end", "bytes", "half a", "straight to 1", "straight to 2"):
        assert said in log
    assert "from a child" in log
    assert "and on 2" in log


def test_nothing_a_program_starts_reads_the_requests(worker: Worker) -> None:
    assert worker.call("reads", timeout_s=20) == {"read": None, "child": ""}
    assert worker.call("probe")["tools"] == {"vendor": "1.2"}


@pytest.mark.parametrize(
    "text",
    [
        "not JSON\n",
        "17\n",
        "[]\n",
        "{}\n",
        '{"answer": null}\n',
        '{"error": "text"}\n',
        '{"answer": {}, "error": {}}\n',
        '{"answer": {}',  # and then the end of its time
        "[" * 100_000 + "\n",
        "\udcff\x00\n".encode(errors="replace").decode(),
    ],
)
def test_garbage_on_the_private_descriptor(program: Path, text: str) -> None:
    with served(program) as worker:
        with pytest.raises(WorkerError) as caught:
            worker.call("garbage", text=text, timeout_s=20 if text.endswith("\n") else 1)
        assert gone(worker._process.pid)
    if text.endswith("\n"):
        assert f"vendor answered {text[:80].rstrip()[:20]!r}"[:-1] in caught.value.message
        assert "expected a JSON object" in caught.value.message
        assert "dict" in caught.value.hint
    else:
        assert "no answer to garbage within 1 s" in caught.value.message


def test_an_error_with_nothing_in_it(program: Path) -> None:
    with served(program) as worker, pytest.raises(WorkerError, match=r"^vendor: : "):
        worker.call("garbage", text='{"error": {}}\n')


def test_an_answer_that_is_no_dict(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"answered .*null.* to not_a_dict") as caught:
        worker.call("not_a_dict")
    assert "A program returns a dict" in caught.value.hint


def test_a_large_answer(worker: Worker) -> None:
    start = time.monotonic()
    assert worker.call("large", size=20_000_000)["text"] == "x" * 20_000_000
    assert time.monotonic() - start < 5
    assert worker.call("probe")["tools"] == {"vendor": "1.2"}


def test_a_line_without_end(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedeploy.worker.LINE_MOST_BYTES", 1000)
    with pytest.raises(WorkerError, match="answered more than 1,000 bytes to large"):
        worker.call("large", size=9999)


def test_a_large_request(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="unexpected keyword argument"):
        worker.call("prints", text="x" * 5_000_000)


def test_events_come_in_order(tmp_path: Path) -> None:
    program = tmp_path / "many.py"
    program.write_text(
        "import numpy as np\n"
        "def probe(): return {}\n"
        "def run(inputs): return {'y': inputs['x'] * 2}\n"
    )
    numpy = pytest.importorskip("numpy")
    numpy.savez(tmp_path / "in.npz", x=numpy.arange(200.0).reshape(200, 1))
    events: list[dict[str, Any]] = []
    with served(program) as worker:
        answer = worker.call(
            "measure.infer",
            on_event=events.append,
            inputs=str(tmp_path / "in.npz"),
            outputs=str(tmp_path / "out.npz"),
        )
    assert [event["done"] for event in events] == [64, 128, 192]
    assert {(event["event"], event["phase"], event["total"]) for event in events} == {
        ("progress", "infer", 200)
    }
    assert answer["count"] == 200


def test_two_workers_answer_in_parallel(program: Path) -> None:
    with served(program) as first, served(program) as second:
        assert first.call("pid") != second.call("pid")
        first.start("sleeps", seconds=0.5)
        second.start("sleeps", seconds=0.5)
        spans = [worker.finish() for worker in (first, second)]
    assert max(span["start"] for span in spans) < min(span["end"] for span in spans)


def test_serve_by_hand(program: Path) -> None:
    """The protocol itself: a line in, a line out, and the end of input is the end."""
    requests = '{"call": "probe"}\nnot JSON\n{"call": "probe", "arguments": {}}\n'
    done = subprocess.run(
        [sys.executable, str(SERVE), str(program)],
        check=True,
        capture_output=True,
        text=True,
        input="",
    )
    assert done.stdout == ""
    with subprocess.Popen(
        [sys.executable, str(SERVE), str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(requests)
        process.stdin.flush()
        first, second, third = (json.loads(process.stdout.readline()) for _ in range(3))
        process.stdin.close()
        assert process.wait(10) == 0
    assert first["answer"] == third["answer"] == {"tools": {"vendor": "1.2"}}
    assert second["error"]["type"] == "JSONDecodeError"


def test_the_hint_of_a_user_s_callable_is_kept(write: Callable[..., Path]) -> None:
    program = write(
        "own.py",
        """
        from edgedeploy.errors import DataError

        def probe():
            raise DataError("no image in it", hint="Name a folder with images.")
        """,
    )
    with served(program) as worker, pytest.raises(InputError) as caught:
        worker.call("probe")
    assert caught.value.message == "no image in it"
    assert caught.value.hint == "Name a folder with images."
