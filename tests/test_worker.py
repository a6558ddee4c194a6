"""Workers: every way a program can go wrong becomes a typed error, and no process is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgedeploy.errors import (
    EdgeDeployError,
    InputError,
    MissingError,
    StorageError,
    UnsupportedError,
    WorkerError,
)
from edgedeploy.memory import memory_limit_bytes
from edgedeploy.worker import SERVE, Worker

CODES: dict[type[EdgeDeployError], int] = {
    MissingError: 3,
    UnsupportedError: 4,
    InputError: 2,
    StorageError: 1,
    WorkerError: 1,
}
PROGRAM = """
import ctypes, errno, os, signal, subprocess, sys, threading, time

class Missing(Exception): pass
class Unsupported(Exception): pass
class BadInput(Exception): pass
class VerySpecial(Unsupported): pass

class Hinted(Missing):
    hint = "plug it in"

class Odd(Exception):
    kind = 7

def probe():
    return {"tools": {"vendor": "1.2"}}

def missing(): raise Missing("no vendor SDK")
def hinted(): raise Hinted("no board")
def unsupported(): raise VerySpecial("operator Foo is not known")
def bad_input(): raise BadInput("the option is wrong")
def other(): raise KeyError("weights")
def odd(): raise Odd("odd")
def full(): raise OSError(errno.ENOSPC, "No space left on device", "/x/y")
def absent_module(): import a_vendor_sdk_that_is_nowhere
def leaves(): sys.exit("out of licence")
def leaves_quietly(): sys.exit(0)

def prints():
    print("to stdout, no end of line", end="")
    sys.stdout.buffer.write(b"\\xff\\xfe\\x00 bytes \\n")
    print("\\udc80 half a character")
    print("{\\"answer\\": {}}")
    os.write(1, b"straight to 1\\n")
    os.write(2, b"straight to 2\\n")
    subprocess.run(["sh", "-c", "echo from a child; echo and on 2 >&2"])
    return {"printed": True}

def reads():
    try:
        input()
    except EOFError:
        child = subprocess.run(["cat"], stdout=subprocess.PIPE)
        return {"read": None, "child": child.stdout.decode()}

def garbage(text):
    for descriptor in (3, 4):
        try:
            os.write(descriptor, text.encode())
        except OSError:
            continue
    time.sleep(30)

def abort():
    print("last words")
    os.abort()

def segfault(): ctypes.string_at(0)
def killed(number): os.kill(os.getpid(), number)
def exits(): os._exit(7)

def hangs(path=None):
    print("about to hang")
    if path:
        near = subprocess.Popen(["sleep", "60"])
        far = subprocess.Popen(["sleep", "60"], start_new_session=True)
        with open(path + ".part", "w") as file:
            file.write("%d %d %d" % (os.getpid(), near.pid, far.pid))
        os.rename(path + ".part", path)
    time.sleep(60)

def spins(path):
    with open(path + ".part", "w") as file:
        file.write("%d" % os.getpid())
    os.rename(path + ".part", path)
    while True: pass

def dies_with_a_fork_left():
    if os.fork() == 0:
        time.sleep(60)
    os._exit(5)

def children_then_answer(path):
    child = subprocess.Popen(["sleep", "60"])
    return {"child": child.pid}

def eats(size):
    kept = []
    while True:
        kept.append(bytearray(b"x") * (8 << 20))
        if len(kept) * (8 << 20) > size: time.sleep(60)

def eats_in_a_child(size):
    code = "import time; kept = bytearray(b'x') * %d; time.sleep(60)" % size
    subprocess.run([sys.executable, "-c", code])

def chatters():
    while True:
        os.write(2, b"chatter " * (1 << 17))

def large(size): return {"text": "x" * size}
def not_a_dict(): return None
def not_json(): return {"value": object()}
def pid(): return {"pid": os.getpid()}
def sleeps(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return {"start": start, "end": time.monotonic()}
def score(): return {"adj": int(open("/proc/self/oom_score_adj").read())}

def close():
    with open(__file__ + ".closed", "w") as file:
        file.write("closed")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def served(program: Path, **options: Any) -> Worker:
    return Worker(program.stem, [sys.executable, str(SERVE), str(program)], **options)


@pytest.fixture
def worker(program: Path) -> Iterator[Worker]:
    with served(program) as found:
        yield found


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process ends (or is only not yet reaped) within that time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def appears(path: Path, within_s: float = 20.0) -> str:
    deadline = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text()


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


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("abort", {}, "vendor was killed by SIGABRT during abort"),
        ("segfault", {}, "vendor was killed by SIGSEGV during segfault"),
        ("exits", {}, "vendor ended with exit code 7 during exits"),
        ("killed", {"number": 9}, "SIGKILL (the system does that when memory runs out)"),
        ("killed", {"number": 40}, "vendor was killed by signal 40 during killed"),
    ],
)
def test_crashes_are_named(
    worker: Worker, function: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call(function, **arguments)
    assert message in caught.value.message
    assert caught.value.exit_code == 1
    assert "log" in caught.value.hint
    # one who asks a dead worker again is told so, not left waiting
    with pytest.raises(WorkerError, match="during probe"):
        worker.call("probe")


def test_a_crash_leaves_its_last_words_and_where_it_was(worker: Worker) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call("abort")
    assert "last words" in caught.value.log
    assert "in abort" in caught.value.log


def test_a_hang_ends_at_its_limit_with_all_it_started(program: Path, tmp_path: Path) -> None:
    named = tmp_path / "pids"
    start = time.monotonic()
    with served(program, timeout_s=3.0) as worker:
        with pytest.raises(WorkerError, match="no answer to hangs within 3 s") as caught:
            worker.call("hangs", path=str(named))
        for pid in map(int, named.read_text().split()):
            assert gone(pid, 2.0)
    assert "--timeout" in caught.value.hint
    assert "about to hang" in caught.value.log
    assert time.monotonic() - start < 8


def test_a_dead_worker_whose_fork_holds_the_pipe_is_noticed(program: Path) -> None:
    with (
        served(program) as worker,
        pytest.raises(WorkerError, match="ended with exit code 5 during dies_with"),
    ):
        worker.call("dies_with_a_fork_left", timeout_s=20)


def test_what_a_worker_started_ends_with_it(program: Path) -> None:
    with served(program) as worker:
        child = worker.call("children_then_answer", path="")["child"]
        assert psutil.pid_exists(child)
    assert gone(child)
    assert Path(f"{program}.closed").read_text() == "closed"


def test_memory_past_the_limit_is_named(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDEPLOY_WORKER_MEMORY_BYTES", "150000000")
    for function in ("eats", "eats_in_a_child"):
        with served(program) as worker, pytest.raises(WorkerError) as caught:
            worker.call(function, size=200_000_000, timeout_s=20)
        assert f"in {function}, over its limit of 0.15 GB" in caught.value.message
        assert caught.value.message.startswith("vendor took 0.")
        assert "EDGEDEPLOY_WORKER_MEMORY_BYTES" in caught.value.hint
        assert gone(worker._process.pid)


def test_the_memory_limit_of_a_user(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    monkeypatch.setenv("EDGEDEPLOY_WORKER_MEMORY_BYTES", "4 GB")
    with pytest.raises(InputError, match="'4 GB', expected a number of bytes") as caught:
        served(program)
    assert "4000000000" in caught.value.hint
    monkeypatch.delenv("EDGEDEPLOY_WORKER_MEMORY_BYTES")
    assert 0 < memory_limit_bytes() < psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ranks what to end first")
def test_the_system_ends_the_worker_first(worker: Worker) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert worker.call("score")["adj"] == max(own, 500)


def test_endless_printing_does_not_fill_the_disk(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedeploy.worker.LOG_MOST_BYTES", 16 << 20)
    used = []
    original = os.ftruncate

    def spied(descriptor: int, length: int) -> None:
        used.append(os.fstat(descriptor).st_blocks * 512)
        original(descriptor, length)

    monkeypatch.setattr(os, "ftruncate", spied)
    with served(program) as worker, pytest.raises(WorkerError) as caught:
        worker.call("chatters", timeout_s=1.5)
    assert len(used) >= 2
    assert "chatter" in caught.value.log


def test_a_large_answer(worker: Worker) -> None:
    start = time.monotonic()
    assert worker.call("large", size=20_000_000)["text"] == "x" * 20_000_000
    assert time.monotonic() - start < 5
    assert worker.call("probe")["tools"] == {"vendor": "1.2"}


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


PARENT = """
import sys, time
from edgedeploy.worker import SERVE, Worker

program, function, path = sys.argv[1:]
worker = Worker("vendor", [sys.executable, str(SERVE), program])
pid = worker.call("pid")["pid"]
if function == "idle":
    with open(path, "w") as file:
        file.write(str(pid))
    time.sleep(60)
try:
    with worker:
        worker.call(function, path=path)
except KeyboardInterrupt:
    sys.exit(130)
"""


def parent(program: Path, function: str, path: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PARENT, str(program), function, str(path)]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("function", ["idle", "hangs", "spins"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_orphan_is_left(
    program: Path, tmp_path: Path, function: str, number: signal.Signals
) -> None:
    named = tmp_path / "pids"
    with parent(program, function, named) as process:
        pids = [int(word) for word in appears(named).split()]
        assert all(psutil.pid_exists(pid) for pid in pids)
        process.send_signal(number)
        code = process.wait(15)
        alive = [pid for pid in pids if not gone(pid)]
        for pid in pids:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
    assert alive == []
    if function != "idle":
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)


def test_closing_says_good_bye_to_the_program(program: Path) -> None:
    worker = served(program)
    assert worker.call("probe")
    pid = worker._process.pid
    worker.close()
    worker.close()
    assert gone(pid)
    assert Path(f"{program}.closed").exists()
    assert worker.log() == ""


def test_a_program_that_does_not_leave_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "stays.py"
    program.write_text("import time\ndef probe(): return {}\ndef close(): time.sleep(60)\n")
    start = time.monotonic()
    with served(program) as worker:
        worker.call("probe")
        pid = worker._process.pid
    assert gone(pid)
    assert 1.5 < time.monotonic() - start < 8


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
