"""A toolchain in a container: a stand-in of the engine that is as strict, and the real client."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from fake_engine import IMAGE, FakeEngine, installed, written_program
from test_throwaway_toolchain import FILES, command_line

from edgedeploy import container
from edgedeploy.compilers import Compilers
from edgedeploy.container import choose, image_of, preview, serve, use
from edgedeploy.errors import EdgeDeployError, InputError, MissingError, WorkerError
from edgedeploy.memory import memory_limit_bytes
from edgedeploy.target import load_target
from edgedeploy.worker import SERVE


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return installed(tmp_path, monkeypatch)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return written_program(tmp_path)


def flags(run: Any) -> dict[str, list[str]]:
    """Flag to its values, of a `docker run`."""
    found: dict[str, list[str]] = {}
    arguments = run["arguments"]
    for flag, value in itertools.pairwise(arguments):
        if flag.startswith("--"):
            found.setdefault(flag, []).append(value)
    return found


# the whole way


@pytest.fixture
def toolchain(
    tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, shared_cache: Path
) -> Path:
    """The throwaway toolchain of another test, whose SDK is in an image and not on this host."""
    folder = tmp_path / "acme"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    compiler = folder / "compilers" / "acme.py"
    compiler.write_text(compiler.read_text() + f"\n# of {tmp_path}: shared with no other test\n")
    shutil.move(folder / "sdk", tmp_path / "inside")
    inside = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "inside")}
    engine.has(
        {
            "acme/sdk:0.7": {"id": "sha256:" + "a" * 64, "env": inside},
            "acme/sdk:0.7-fixed": {"id": "sha256:" + "b" * 64, "env": inside},
        }
    )
    monkeypatch.setenv("EDGEDEPLOY_PATH", str(folder))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def test_a_model_is_compiled_in_a_container(
    toolchain: Path, engine: FakeEngine, shared_cache: Path
) -> None:
    given = ("compile", "digits", "-t", "acme")
    artifacts = command_line(*given, "--container", "acme/sdk:0.7")
    assert [(a["precision"], a["tools"]) for a in artifacts] == [
        ("fp32", {"acme": "0.7"}),
        ("int8", {"acme": "0.7"}),
    ]
    for artifact in artifacts:
        path = Path(artifact["path"])
        assert path.is_relative_to(shared_cache)
        assert path.stat().st_size == artifact["size_bytes"] > 100_000
        assert path.stat().st_uid == os.getuid()
    looked, served = engine.ran()
    assert engine.running() == []
    assert [looked["code"], served["code"]] == [0, 0]
    assert served["refused"] == []
    found = flags(served)
    assert found["--network"] == ["none"]
    assert found["--user"] == [f"{os.getuid()}:{os.getgid()}"]
    # what was made in an image is that image's
    again = command_line(*given, "-p", "fp32", "--container", "acme=acme/sdk:0.7")
    assert again[0]["path"] == artifacts[0]["path"]
    other = command_line(*given, "-p", "fp32", "--container", "acme=acme/sdk:0.7-fixed")
    assert other[0]["path"] != artifacts[0]["path"]


def test_without_its_container_a_toolchain_is_missing(toolchain: Path) -> None:
    short = ("--runs", "50", "--duration", "0.05", "-p", "fp32")
    report = command_line("deploy", "digits", "-t", "acme", *short, code=3)
    assert report["rows"][0]["failure"]["message"] == "No module named 'acme_sdk'"
    report = command_line(
        "deploy", "digits", "-t", "acme", *short, "--container", "acme/sdk:9", code=3
    )
    failure = report["rows"][0]["failure"]
    assert (failure["kind"], failure["stage"]) == ("missing", "compile")
    assert "there is no image acme/sdk:9" in failure["message"]
    assert "docker load -i FILE" in failure["hint"]


def test_the_emulator_runs_where_the_toolchain_is(
    toolchain: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = toolchain / "profilers" / "runtime"
    shutil.copy(runtime / "acme.py", runtime / "acme_emulator.py")
    target = toolchain / "targets" / "acme.toml"
    target.write_text(target.read_text() + '\nemulator = "acme_emulator"\n')
    given = ("verify", "digits", "-t", "acme", "-p", "int8", "--container", "acme/sdk:0.7")
    # the runtime needs its SDK on this host too, beside what it calls a device
    monkeypatch.setenv("PYTHONPATH", str(toolchain.parent / "inside"))
    (ladder,) = command_line(*given).values()
    rungs = {rung["name"]: rung for rung in ladder["rungs"]}
    assert rungs["emulated"]["snr_db"] > 15
    assert rungs["deployed"]["reference"] == "emulated"
    assert not rungs["deployed"]["broken"]
    served = [each["arguments"][-1] for each in engine.ran()]
    assert str(runtime / "acme_emulator.py") in served
    assert str(runtime / "acme.py") not in served
    assert {each["code"] for each in engine.ran()} == {0}


# one worker


def test_what_a_program_finds_inside(engine: FakeEngine, program: Path, tmp_path: Path) -> None:
    chosen = choose(program)
    assert (chosen.kind, chosen.path) == ("container", "python3")
    assert chosen.why == f"in {IMAGE}, named in EDGEDEPLOY_CONTAINER_VENDOR"
    assert chosen.versions["container"] == "1" * 64
    assert chosen.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "numpy" in chosen.versions
    assert "surely-not-installed" not in chosen.versions
    (tmp_path / "tmp" / "given.txt").write_text("given")
    with serve(program, chosen) as worker:
        assert worker.call("probe") == {"tools": {"vendor": "1"}}
        found = worker.call("where")
        home = Path(found["folder"])
        assert found["user"] == os.getuid()
        assert home.parent == tmp_path / "tmp"
        environment = found["environment"]
        assert environment["HOME"] == str(home)
        assert environment["TMPDIR"] == str(tmp_path / "tmp")
        assert environment["PATH"] == "/usr/bin:/bin"  # the image's own
        assert not [name for name in environment if name.startswith("EDGEDEPLOY_")]
        assert worker.call("read", path=str(tmp_path / "tmp" / "given.txt")) == {"text": "given"}
        assert worker.call("read", path=str(program))["text"] == program.read_text()
        with pytest.raises(EdgeDeployError, match="Read-only file system"):
            worker.call("write", path=str(program))
        assert len(engine.running()) == 1
    assert engine.running() == []
    assert not home.exists()
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["given.txt"]
    found = flags(engine.ran()[-1])
    assert found["--memory"][0].isdigit()
    assert int(found["--memory"][0]) <= memory_limit_bytes() * 1.2
    assert found["--entrypoint"] == ["python3"]
    assert engine.ran()[-1]["arguments"][-2:] == [str(SERVE), str(program)]
    assert "sha256:" + "1" * 64 in engine.ran()[-1]["arguments"]


def test_a_file_the_container_does_not_see(
    engine: FakeEngine, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a, b"
    folder.mkdir()
    (folder / "more.txt").write_text("more")
    given = {"path": str(program), "options": {"scripts": [str(folder / "more.txt")]}}
    with serve(program) as worker:
        with pytest.raises(InputError, match=r"more\.txt is in no folder that the container") as no:
            worker.call("read", **given)
        assert no.value.hint.startswith(f"Set EDGEDEPLOY_CONTAINER_FOLDERS to {folder}, or")
        with pytest.raises(EdgeDeployError, match="No such file or directory"):
            worker.call("read", path="../../own/../a, b/more.txt")
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_FOLDERS", f"{folder}:{program.parent}")
    with serve(program) as worker:
        assert worker.call("read", **given)["text"] == program.read_text()
        assert worker.call("read", path=str(folder / "more.txt")) == {"text": "more"}
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_FOLDERS", str(folder / "more.txt"))
    with pytest.raises(InputError, match=r"names .*more\.txt, which is no folder"):
        serve(program)


def test_what_the_image_lacks_is_told_with_the_remedy(engine: FakeEngine, program: Path) -> None:
    where = (
        f"It ran as python3 in {IMAGE}: EDGEDEPLOY_CONTAINER_PYTHON names another Python of the"
        " image, EDGEDEPLOY_CONTAINER_VENDOR another image."
    )
    with serve(program) as worker:
        with pytest.raises(MissingError, match="No module named 'surely_not_installed'") as caught:
            worker.call("lacking")
        assert caught.value.hint == where
        with pytest.raises(MissingError, match="no licence") as caught:
            worker.call("unlicensed")
        assert caught.value.hint == f"Buy one. {where}"


# its end


def test_a_container_that_hangs_ends_with_its_worker(engine: FakeEngine, program: Path) -> None:
    with serve(program) as worker:
        worker.call("probe")
        (name,) = engine.running()
        assert name.startswith("edgedeploy-vendor-")
        with pytest.raises(WorkerError, match=r"no answer to hold within 0\.5 s"):
            worker.call("hold", timeout_s=0.5)
        assert engine.none_left()
        assert engine.ran()[-1]["code"] == 137
    worker = serve(program)
    worker.call("probe")
    worker.start("hold")
    worker.close(grace_s=0.1)
    assert engine.none_left()


def test_a_container_ends_when_its_client_is_killed(engine: FakeEngine, program: Path) -> None:
    with serve(program) as worker:
        worker.call("probe")
        worker.start("sleep")
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="killed by SIGKILL"):
            worker.finish()
        assert engine.none_left()


@pytest.mark.parametrize("function", ["sleep", "hold"])
def test_a_container_ends_when_the_whole_run_is_killed(
    engine: FakeEngine, program: Path, function: str
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from edgedeploy import container\n"
        "container.ORPHAN_S = 0.3; worker = container.serve(Path(sys.argv[1]))\n"
        "worker.call('probe'); worker.start(sys.argv[2]); print('now', flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", code, str(program), function]
    run = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == b"now\n"
        assert len(engine.running()) == 1
        run.kill()
        run.wait()
    assert engine.none_left()


def test_what_a_signal_ends_is_named(engine: FakeEngine, program: Path) -> None:
    with serve(program) as worker, pytest.raises(WorkerError, match="was killed by SIGSEGV during"):
        worker.call("killed", number=signal.SIGSEGV)
    with serve(program) as worker, pytest.raises(WorkerError) as caught:
        worker.call("killed", number=signal.SIGKILL)
    assert "vendor was killed in its container during killed (the system" in caught.value.message
    assert "EDGEDEPLOY_WORKER_MEMORY_BYTES" in caught.value.hint


# choices


def test_options_of_the_users_own(
    engine: FakeEngine, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_OPTIONS", "--env 'KEY=a b'")
    chosen = choose(program)
    assert chosen.versions["container options"] == "--env 'KEY=a b'"
    with serve(program, chosen) as worker:
        assert worker.call("where")["environment"]["KEY"] == "a b"
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_OPTIONS", "--network host")
    with serve(program, chosen) as worker:
        worker.call("probe")
    assert flags(engine.ran()[-1])["--network"] == ["host"]
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_OPTIONS", "--gpu all")
    with pytest.raises(MissingError, match="unknown flag: --gpu") as caught:
        choose(program)
    assert "EDGEDEPLOY_CONTAINER_OPTIONS added '--gpu all'" in caught.value.hint
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_OPTIONS", "--env 'KEY")
    with pytest.raises(InputError, match="No closing quotation"):
        choose(program)


def test_which_image(
    engine: FakeEngine, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the Python named may be that of the runtime, which shares the compiler's name
    monkeypatch.setenv("EDGEDEPLOY_PYTHON_VENDOR", "/no/python")
    assert preview(program) == ("container", IMAGE, "named in EDGEDEPLOY_CONTAINER_VENDOR")
    assert choose(program).kind == "container"
    monkeypatch.delenv("EDGEDEPLOY_PYTHON_VENDOR")
    other = program.with_name("vendor_emulator.py")
    shutil.copy(program, other)
    named = image_of(other)
    assert named is not None
    assert (named.image, named.variable) == (IMAGE, "EDGEDEPLOY_CONTAINER_VENDOR")
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_VENDOR_EMULATOR", "vendor/emulator:1")
    assert preview(other)[1] == "vendor/emulator:1"
    assert preview(program)[1] == IMAGE
    monkeypatch.delenv("EDGEDEPLOY_CONTAINER_VENDOR")
    plain = tmp_path / "plain.py"
    plain.write_text('"""A program."""\ndef probe(): return {"tools": {}}\n')
    assert preview(plain)[:2] == ("current", sys.executable)
    with serve(plain) as worker:
        assert worker.call("probe") == {"tools": {}}
    assert len(engine.ran()) == 1


def test_what_needs_no_toolchain_runs_on_this_host(
    engine: FakeEngine, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it writes where it stands
    program.write_text(program.read_text().replace(', "surely-not-installed"', ""))
    with Compilers() as compilers:
        assert compilers.interpreter(program).kind == "container"
        found = compilers.call_alone(program, "where")
    assert "EDGEDEPLOY_CONTAINER_VENDOR" in found["environment"]
    assert [each["arguments"][-1][:1] for each in engine.ran()] == ["["]  # it was only looked into


def test_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    host, board = load_target("host"), load_target("esp32s3")
    for name in ("ORT", "ESPDL"):
        monkeypatch.setenv(f"EDGEDEPLOY_CONTAINER_{name}", "before:1")
    use(["after:1"], [host])
    assert os.environ["EDGEDEPLOY_CONTAINER_ORT"] == "after:1"
    use(["ort=a:1, espdl=place:5000/b@sha256:1"], [])
    assert os.environ["EDGEDEPLOY_CONTAINER_ORT"] == "a:1"
    assert os.environ["EDGEDEPLOY_CONTAINER_ESPDL"] == "place:5000/b@sha256:1"
    with pytest.raises(InputError, match=r"names no compiler, and the targets have .*espdl.*ort"):
        use(["c:1"], [host, board])
    with pytest.raises(InputError, match="compiler 'opd' is not known") as caught:
        use(["opd=c:1"], [host])
    assert caught.value.hint
    with pytest.raises(InputError, match="expected the name of an image"):
        use(["ort=c d"], [host])


def test_folders_are_mounted_once(
    engine: FakeEngine, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program.parents[1] / "profilers" / "runtime").mkdir(parents=True)
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(tmp_path / "tmp" / "cache"))
    monkeypatch.setenv("EDGEDEPLOY_RUNS", str(tmp_path / "tmp" / "runs"))
    monkeypatch.setenv("EDGEDEPLOY_CONTAINER_FOLDERS", str(SERVE.parents[1]))
    assert container._mounts(program) == {
        program.parent: False,
        program.parents[1] / "profilers": False,
        SERVE.parents[1]: False,
        tmp_path / "tmp": True,
    }
