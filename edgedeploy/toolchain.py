"""What all calls of a toolchain share: merged options, answers kept by all they depend on."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgedeploy.cache import Cached, build, lookup
from edgedeploy.compilers import Compilers
from edgedeploy.digest import file_sha256, files_sha256
from edgedeploy.errors import InputError
from edgedeploy.inventory import base_name
from edgedeploy.records import Target
from edgedeploy.share import program_files


def kept(
    stage: str,
    subject: str,
    parts: dict[str, str],
    make: Callable[[Path], dict[str, Any]],
    *,
    unlisted: Callable[[], dict[str, str]],
    use_cache: bool,
) -> Cached:
    """An entry of the cache, or made by a program.

    An entry whose tools are all installed packages is found without starting the program; versions
    that only the program can tell, which `unlisted` asks it for, make it start each time.
    """
    hit = lookup(stage, subject, parts) if use_cache else None
    if hit is not None:
        return hit
    return build(stage, subject, {**parts, **unlisted()}, make, use=use_cache)


def merged_options(
    board: dict[str, Any], options: dict[str, Any], target: Target
) -> dict[str, Any]:
    """A target's options, then a workload's for all, then those in a table of the target's name,
    then those in one of its name with the device's.
    """
    merged = {**board, **{k: value for k, value in options.items() if not isinstance(value, dict)}}
    for name in dict.fromkeys((base_name(target.name), target.name)):
        own = options.get(name, {})
        if not isinstance(own, dict):
            msg = f"the options for target {name} are {own!r}, expected a table"
            raise InputError(msg, hint=f"Write them as a table named {name}.")
        merged |= own
    return merged


def tool_parts(program: Path, compilers: Compilers, options: dict[str, Any]) -> dict[str, str]:
    return {
        "options": msgspec.json.encode(options, order="sorted").decode(),
        "program": files_sha256(program_files(program)),
        **{f"file {key}": file_sha256(path) for key, path in _named_files(options)},
        **{
            f"tool {name}": version
            for name, version in compilers.interpreter(program).versions.items()
        },
    }


def _named_files(options: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Options that name a file there is: its bytes count, not its name alone."""
    for key, value in options.items():
        if isinstance(value, str) and value and "\n" not in value:
            path = Path(value).expanduser()
            with contextlib.suppress(OSError):  # a text too long for a name, for example
                if path.is_file():
                    yield key, path
