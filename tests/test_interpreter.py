"""Which Python runs a program: headers read as PEP 723 says, and each choice with its reason."""

import importlib.metadata
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedeploy.cache import cache_folder
from edgedeploy.errors import InputError, MissingError, StorageError
from edgedeploy.interpreter import (
    Header,
    choose,
    preview,
    read_header,
    unmet,
    variable,
    variables,
)
from edgedeploy.worker import SERVE, Worker

Write = Callable[..., Path]
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def program(folder: Path, header: str, name: str = "vendor.py") -> Path:
    path = folder / name
    body = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    text = f"# /// script\n{body}# ///\n" if header else ""
    path.write_text(f'{text}"""A program."""\ndef probe(): return {{}}\n', encoding="utf-8")
    return path


def other_python() -> str:
    """A Python of another minor version that runs here, as `3.9`; skips the test without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for minor in range(9, 15):
        version = f"3.{minor}"
        named = [str(p) for p in pyenv.glob(f"{version}.*/bin/python")]
        for candidate in (*named, shutil.which(f"python{version}")):
            if version == HERE or candidate is None:
                continue
            done = subprocess.run([candidate, "--version"], check=False, capture_output=True)
            if done.returncode == 0 and done.stdout.startswith(f"Python {version}.".encode()):
                return version
    pytest.skip("only one Python is on this machine")


NAMES = st.from_regex(r"\A[A-Za-z]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?\Z")
RANGES = st.lists(
    st.tuples(
        st.sampled_from([">=", "<", "!=", "==", "~="]), st.from_regex(r"\A[0-9]{1,2}\.[0-9]\Z")
    ),
    max_size=2,
).map(lambda parts: ",".join("".join(part) for part in parts))


@given(
    names=st.lists(NAMES, max_size=4),
    ranges=st.lists(RANGES, min_size=4, max_size=4),
    python=RANGES,
    before=st.sampled_from(["", "#!/usr/bin/env python3\n", "# a comment\n\n", "import os\n\n"]),
    after=st.sampled_from(["", "\n", "x = 1\n", "\n# /// other\n# a = [\n# ///\n"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_a_header_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    names: list[str],
    ranges: list[str],
    python: str,
    before: str,
    after: str,
    newline: str,
) -> None:
    wanted = tuple(name + part for name, part in zip(names, ranges, strict=False))
    lines = [f"requires-python = {json.dumps(python)}", "dependencies = ["]
    lines += [f"  {json.dumps(each)}, # why" for each in wanted]
    lines += ["]", "", "[tool.vendor]", "key = 1"]
    block = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    path = tmp_path_factory.mktemp("header") / "vendor.py"
    text = f"{before}# /// script\n{block}# ///\n{after}"
    path.write_text(text, newline=newline)
    assert read_header(path) == Header(requires_python=python, dependencies=wanted)


def test_a_program_without_a_header_runs_anywhere(tmp_path: Path) -> None:
    path = program(tmp_path, "")
    assert read_header(path) == Header()
    assert unmet(Header()) == []
    assert preview(path)[:2] == ("current", sys.executable)


def test_a_header_at_the_end_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vendor.py"
    path.write_text("# /// script\n# dependencies = []\n# ///")
    assert read_header(path) == Header()
    path.write_text('# /// script\n# requires-python = ">=3.9"\n#\n# ///')
    assert read_header(path) == Header(requires_python=">=3.9")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("dependencies = [", "vendor.py is not valid"),
        ('dependencies = "numpy"', r"Expected `array`, got `str` - at `\$.dependencies`"),
        ("dependencies = [5]", "Expected `str`, got `int`"),
        ('dependencies = ["numpy >> 1"]', "numpy >> 1"),
        ('dependencies = ["not a name"]', "not a name"),
        ("requires-python = 3.9", "Expected `str`, got `float`"),
        ('requires-python = "three"', "three"),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_header(program(tmp_path, header))
    assert "docs/programs.md" in caught.value.hint


def test_two_headers_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "vendor.py"
    path.write_text("# /// script\n# a = 1\n# ///\n\n# /// script\n# b = 1\n# ///\n")
    with pytest.raises(InputError, match="has 2 script headers, expected one"):
        read_header(path)
    path.write_bytes(b"# \xff\xfe\n")
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_header(path)
    assert "UTF-8" in caught.value.hint
    with pytest.raises(InputError, match=r"cannot be read: .*absent"):
        read_header(tmp_path / "absent.py")


def test_what_the_current_python_lacks() -> None:
    numpy = importlib.metadata.version("numpy")
    header = Header(
        requires_python="<3.8",
        dependencies=(
            f"NumPy=={numpy}",
            "numpy<1",
            "surely-not-installed>=2",
            "surely-not-installed; sys_platform == 'no such system'",
            "pytest",
        ),
    )
    assert unmet(header) == [
        "python<3.8",
        f"numpy<1 (has {numpy})",
        "surely-not-installed>=2",
    ]


def test_a_pre_release_that_is_installed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.0rc1")
    assert unmet(Header(dependencies=("vendor>=1.5",))) == []
    monkeypatch.setattr(sys, "version_info", (3, 15, 0, "alpha", 1))
    assert unmet(Header(requires_python=">=3.14")) == []


def test_the_current_python_and_its_versions(tmp_path: Path) -> None:
    chosen = choose(program(tmp_path, 'dependencies = ["numpy", "Absent; python_version < \'3\'"]'))
    assert (chosen.path, chosen.kind) == (sys.executable, "current")
    assert chosen.versions == {
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
    }


def test_the_name_of_the_variable() -> None:
    assert variable(Path("x/esp-serial.v2.py")) == "EDGEDEPLOY_PYTHON_ESP_SERIAL_V2"
    assert variables(Path("compilers/vendor.py"))[0] == "EDGEDEPLOY_PYTHON_COMPILER_VENDOR"
    assert variables(Path("profilers/runtime/vendor_thing.py")) == (
        "EDGEDEPLOY_PYTHON_RUNTIME_VENDOR_THING",
        "EDGEDEPLOY_PYTHON_VENDOR_THING",
        "EDGEDEPLOY_PYTHON_VENDOR",
    )


@pytest.mark.parametrize(
    ("folder", "name", "given", "used"),
    [
        ("compilers", "vendor", ["COMPILER_VENDOR", "VENDOR"], "COMPILER_VENDOR"),
        ("compilers", "vendor", ["RUNTIME_VENDOR", "VENDOR"], "VENDOR"),
        ("compilers", "vendor", ["RUNTIME_VENDOR"], ""),
        ("runtime", "vendor", ["RUNTIME_VENDOR", "VENDOR"], "RUNTIME_VENDOR"),
        ("instrument", "vendor", ["INSTRUMENT_VENDOR", "VENDOR"], "INSTRUMENT_VENDOR"),
        ("runtime", "vendor_thing", ["VENDOR"], "VENDOR"),
        ("runtime", "vendor_thing", ["VENDOR", "VENDOR_THING"], "VENDOR_THING"),
        # what the device's runtime runs in is not what a vendor's other programs need
        ("runtime", "vendor_thing", ["RUNTIME_VENDOR", "VENDOR"], "VENDOR"),
        (
            "runtime",
            "vendor_thing",
            ["RUNTIME_VENDOR_THING", "VENDOR_THING", "VENDOR"],
            "RUNTIME_VENDOR_THING",
        ),
        ("runtime", "vendor", ["VENDOR_THING"], ""),
        ("runtime", "vendors_thing", ["VENDOR"], ""),
    ],
)
def test_which_variable_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    folder: str,
    name: str,
    given: list[str],
    used: str,
) -> None:
    (tmp_path / folder).mkdir()
    path = program(tmp_path / folder, 'dependencies = ["numpy"]', f"{name}.py")
    for each in ["COMPILER_VENDOR", "RUNTIME_VENDOR", "INSTRUMENT_VENDOR", "VENDOR"]:
        monkeypatch.setenv(f"EDGEDEPLOY_PYTHON_{each}", "")  # set to nothing is not set
    for each in given:
        monkeypatch.setenv(f"EDGEDEPLOY_PYTHON_{each}", f"/named/in/{each}")
    kind, python, why = preview(path)
    if not used:
        assert (kind, python) == ("current", sys.executable)
        assert variable(path) == f"EDGEDEPLOY_PYTHON_{name.upper()}"
        return
    assert (kind, python) == ("named", f"/named/in/{used}")
    assert why == f"named in EDGEDEPLOY_PYTHON_{used}"
    assert variable(path) == f"EDGEDEPLOY_PYTHON_{used}"
    with pytest.raises(InputError, match=f"/named/in/{used}' does not run") as caught:
        choose(path)
    assert caught.value.hint == f"Correct or unset EDGEDEPLOY_PYTHON_{used}."


def test_a_named_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, 'dependencies = ["surely-not-installed", "numpy"]')
    monkeypatch.setenv("EDGEDEPLOY_PYTHON_VENDOR", sys.executable)
    chosen = choose(path)
    assert (chosen.path, chosen.kind) == (sys.executable, "named")
    assert chosen.why == "named in EDGEDEPLOY_PYTHON_VENDOR"
    assert chosen.versions["numpy"] == importlib.metadata.version("numpy")
    assert "surely-not-installed" not in chosen.versions
    assert preview(path) == ("named", sys.executable, "named in EDGEDEPLOY_PYTHON_VENDOR")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "does not run: .*No such file"),
        ("exit 3", "does not run"),
        ("echo 'a broken library' >&2; exit 1", "does not run: a broken library"),
        ("exit 0", "is no Python: asked for its version it said ''"),
        ("echo hello", "is no Python: asked for its version it said 'hello"),
        ("echo 5", "is no Python"),
        ("echo '{}'", "is no Python"),
    ],
)
def test_a_named_python_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str
) -> None:
    python = tmp_path / "python"
    if script:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("EDGEDEPLOY_PYTHON_VENDOR", str(python))
    with pytest.raises(InputError, match=said) as caught:
        choose(program(tmp_path, ""))
    assert str(python) in caught.value.message
    assert caught.value.hint == "Correct or unset EDGEDEPLOY_PYTHON_VENDOR."


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """uv opens no network, whatever it is asked for."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")


@pytest.mark.usefixtures("offline")
def test_another_python_gets_an_environment(tmp_path: Path) -> None:
    version = other_python()
    path = program(tmp_path, f'requires-python = "=={version}.*"')
    kind, python, why = preview(path)
    assert (kind, why) == (
        "isolated",
        f"made at first use: the current Python lacks python=={version}.*",
    )
    assert not Path(python).exists()
    chosen = choose(path)
    assert (chosen.kind, chosen.path) == ("isolated", python)
    assert chosen.why == f"the current Python lacks python=={version}.*"
    assert chosen.versions["python"].startswith(f"{version}.")
    assert preview(path)[2].startswith("made: ")
    with Worker("vendor", [chosen.path, str(SERVE), str(path)]) as worker:
        worker.call("probe")
        assert worker.meta["python"] == chosen.versions["python"]
    # another header is another environment
    assert preview(program(tmp_path, f'requires-python = "=={version}.*,>3"'))[1] != python
    # so are other pins
    path.with_suffix(".lock").write_text("numpy==1.0\n")
    assert preview(path)[1] != python


@pytest.mark.usefixtures("offline")
def test_an_environment_whose_python_went_away_is_made_again(tmp_path: Path) -> None:
    path = program(tmp_path, f'requires-python = "=={other_python()}.*"')
    python = Path(choose(path).path)
    python.unlink()
    assert Path(choose(path).path) == python
    assert python.exists()


@pytest.mark.usefixtures("offline")
def test_half_an_environment_is_made_again(tmp_path: Path) -> None:
    path = program(tmp_path, f'requires-python = "=={other_python()}.*"')
    python = Path(preview(path)[1])
    python.parent.mkdir(parents=True)
    python.write_text("half")
    assert choose(path).kind == "isolated"
    assert (python.parents[1] / "complete").exists()


@pytest.mark.usefixtures("offline")
def test_two_processes_make_one_environment(tmp_path: Path) -> None:
    path = program(tmp_path, f'requires-python = "=={other_python()}.*"')
    code = (
        "import sys; from pathlib import Path; from edgedeploy.interpreter import choose;"
        "print(choose(Path(sys.argv[1])).path)"
    )
    command = [sys.executable, "-c", code, str(path)]
    started: list[Any] = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert said == {preview(path)[1]}
    folders = [p for p in (cache_folder() / "environments").iterdir() if p.is_dir()]
    assert len(folders) == 1


@pytest.mark.usefixtures("offline")
def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    path = program(tmp_path, 'dependencies = ["surely-not-installed>=2"]')
    with pytest.raises(MissingError, match=r"no environment for vendor\.py: ") as caught:
        choose(path)
    assert "surely-not-installed" in caught.value.message
    assert "EDGEDEPLOY_PYTHON_VENDOR" in caught.value.hint
    assert caught.value.exit_code == 3
    assert preview(path)[2].startswith("made at first use")


@pytest.mark.usefixtures("offline")
def test_a_python_that_cannot_be_had(tmp_path: Path) -> None:
    path = program(tmp_path, 'requires-python = "==3.3.*"')
    with pytest.raises(MissingError, match=r"==3\.3\.\*"):
        choose(path)


def test_no_folder_for_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEDEPLOY_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="Not a directory"):
        choose(program(tmp_path, 'requires-python = "==3.3.*"'))
