"""Finding and loading what a workload names as module:callable or file.py:callable."""

import sys
from pathlib import Path

import pytest

from edgedeploy.callables import load_callable, source_file
from edgedeploy.errors import DataError, InputError


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders and modules that a test adds are gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def code(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path.parent)


def test_a_file_beside_the_workload(tmp_path: Path) -> None:
    folder = code(tmp_path / "my.py", "def load():\n    return 42\n")
    assert source_file("my.py:load", folder, "loader") == tmp_path / "my.py"
    assert load_callable("my.py:load", folder, "loader")() == 42


def test_a_file_is_read_again_after_a_change(tmp_path: Path) -> None:
    folder = code(tmp_path / "my.py", "def load():\n    return 1\n")
    assert load_callable("my.py:load", folder, "loader")() == 1
    code(tmp_path / "my.py", "def load():\n    return 'two'\n")
    assert load_callable("my.py:load", folder, "loader")() == "two"


def test_a_file_may_import_its_neighbour_when_called(tmp_path: Path) -> None:
    folder = code(tmp_path / "neighbour_of_my.py", "VALUE = 7\n")
    code(
        tmp_path / "my.py",
        "def load():\n    import neighbour_of_my\n    return neighbour_of_my.VALUE\n",
    )
    assert load_callable("my.py:load", folder, "loader")() == 7


def test_a_module_beside_the_workload(tmp_path: Path) -> None:
    folder = code(tmp_path / "pack_in_folder" / "inner.py", "class Net:\n    pass\n")
    (tmp_path / "pack_in_folder" / "__init__.py").touch()
    source = "pack_in_folder.inner:Net"
    assert source_file(source, str(tmp_path), "model") == Path(folder) / "inner.py"
    assert load_callable(source, str(tmp_path), "model").__name__ == "Net"


def test_a_folder_shadows_no_installed_module(tmp_path: Path) -> None:
    folder = code(tmp_path / "json.py", "raise SystemError\n")
    assert load_callable("json:dumps", folder, "loader")([1]) == "[1]"


def test_a_built_in_module_has_no_file(tmp_path: Path) -> None:
    assert source_file("time:monotonic", str(tmp_path), "loader") is None


def test_methods_of_a_class_by_a_dotted_name() -> None:
    assert load_callable("pathlib:Path.cwd", "", "loader")() == Path.cwd()


def test_finding_a_file_runs_nothing(tmp_path: Path) -> None:
    folder = code(tmp_path / "my.py", "raise RuntimeError\n")
    assert source_file("my.py:load", folder, "loader") == tmp_path / "my.py"


@pytest.mark.parametrize("source", ["load", ":load", "my.py:", "my.py:2x", "my.py:a b"])
def test_other_forms(source: str) -> None:
    with pytest.raises(InputError, match=r"is neither module:callable nor file\.py:callable"):
        load_callable(source, "", "data loader")


def test_no_such_module() -> None:
    with pytest.raises(InputError, match=r"there is no module 'nowhere_at_all\.inner'"):
        load_callable("nowhere_at_all.inner:load", "", "metric")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"my\.py' not found"):
        load_callable("my.py:load", str(tmp_path), "metric")


def test_no_such_name_gives_the_nearest(tmp_path: Path) -> None:
    folder = code(tmp_path / "my.py", "def load_split():\n    pass\n")
    with pytest.raises(InputError, match="has no 'load_splt'") as caught:
        load_callable("my.py:load_splt", folder, "metric")
    assert caught.value.hint == "Did you mean 'load_split'?"


def test_not_callable(tmp_path: Path) -> None:
    folder = code(tmp_path / "my.py", "load = 3\n")
    with pytest.raises(InputError, match="is a int, which cannot be called"):
        load_callable("my.py:load", folder, "metric")


@pytest.mark.parametrize("statement", ["1 / 0", "import sys; sys.exit(9)", "def", "import nixda"])
@pytest.mark.parametrize("source", ["my_raising.py:load", "my_raising:load"])
def test_code_that_raises_on_import(tmp_path: Path, statement: str, source: str) -> None:
    folder = code(tmp_path / "my_raising.py", statement)
    with pytest.raises(InputError, match=r"importing .* raised") as caught:
        load_callable(source, folder, "data loader")
    assert "my_raising.py" in caught.value.log


def test_a_package_that_raises_is_not_called_missing(tmp_path: Path) -> None:
    folder = code(tmp_path / "pack_raising" / "__init__.py", "raise ValueError('early')")
    with pytest.raises(InputError, match="raised ValueError: early"):
        load_callable("pack_raising.inner:load", str(Path(folder).parent), "model")


def test_our_own_errors_pass_through(tmp_path: Path) -> None:
    text = "from edgedeploy.errors import DataError\nraise DataError('mine', hint='so')\n"
    folder = code(tmp_path / "my.py", text)
    with pytest.raises(DataError, match="mine"):
        load_callable("my.py:load", folder, "metric")
