"""Find and load what a workload names as `module:callable` or `file.py:callable`."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from edgedeploy.errors import EdgeDeployError, InputError, nearest
from edgedeploy.workload import find_data, require_file


def split_source(source: str, what: str) -> tuple[str, str]:
    """("file.py" or "module", "callable") of `source`; `InputError` where it has another form."""
    place, colon, name = source.rpartition(":")
    if not (colon and place and all(part.isidentifier() for part in name.split("."))):
        msg = f"{what} {source!r} is neither module:callable nor file.py:callable"
        raise InputError(msg, hint="Write it as in 'my_loader.py:load' or 'package.module:load'.")
    return place, name


def source_file(source: str, folder: str, what: str) -> Path | None:
    """The file that defines `source`, found without running it; None for a built-in module.

    A `file.py` is looked up as data is (beside the workload, then `EDGEDEPLOY_DATA`); a module on
    the import path, then in `folder`. Raises `InputError` where there is none.
    """
    place, _ = split_source(source, what)
    if place.endswith(".py"):
        return require_file(find_data(place, folder), what)
    _reach(folder)
    try:
        found = importlib.util.find_spec(place)
    except ModuleNotFoundError:
        found = None
    except (Exception, SystemExit) as err:
        # finding a.b.c imports a and a.b, which are the user's own code
        doing = f"{what} {source!r}: importing the package of {place!r}"
        raise _raised(doing, err) from err
    if found is None:
        msg = f"{what} {source!r}: there is no module {place!r}"
        hint = f"Install it, or put it beside the workload in {folder or Path.cwd()}."
        raise InputError(msg, hint=hint)
    return Path(found.origin) if found.has_location and found.origin else None


def load_callable(source: str, folder: str, what: str) -> Callable[..., Any]:
    """The callable that `source` names.

    `what` opens every message ("data loader", "metric"). Raises `InputError` for a missing module,
    file or name (with the nearest), a name that cannot be called, and code that raises on import.
    """
    place, name = split_source(source, what)
    file = source_file(source, folder, what)
    try:
        if place.endswith(".py") and file:
            module = _load_file(file)
        else:
            module = importlib.import_module(place)
    except (Exception, SystemExit) as err:
        doing = f"{what} {source!r}: importing {file or place}"
        raise _raised(doing, err) from err
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError as err:
        public = [known for known in vars(module) if not known.startswith("_")]
        msg = f"{what} {source!r}: {file or place} has no {name!r}"
        raise InputError(msg, hint=nearest(name, public)) from err
    if not callable(found):
        msg = f"{what} {source!r} is a {type(found).__name__}, which cannot be called"
        raise InputError(msg, hint="Name a function or a class.")
    return found


def _load_file(file: Path) -> ModuleType:
    _reach(str(file.parent))
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"{file} is not a Python file"
        raise InputError(msg)
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickling look their own module up while it is still loading
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _reach(folder: str) -> None:
    """Let modules in `folder` be imported, after all others so that they shadow none."""
    path = str(Path(folder).resolve())
    if path not in sys.path:
        sys.path.append(path)
        importlib.invalidate_caches()


def _raised(doing: str, err: BaseException) -> EdgeDeployError:
    if isinstance(err, EdgeDeployError):
        return err
    message = f"{doing} raised {type(err).__name__}: {err}"
    return InputError(message, hint="Mend that code.", log=traceback.format_exc())
