"""A container engine's command line, as strict as the real one, that runs things on this host.

`python fake_docker.py STATE ARGUMENTS…`. STATE/images.json tells what images there are: name to
`id`, `env`, and `pythons` (what a path inside is out here). STATE/refuses.json may hold, by first
argument, what is said and the exit code. A container is no child of its client; it ends when the
client is gone (its stdin closes) or when it is killed, and sees files in what is mounted alone: a
request that names another path is refused, and so is opening one. STATE/ran.jsonl gets a line for
each container that ended.
"""

import contextlib
import csv
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import psutil

ALONE = {"--rm", "--interactive", "--init"}
ONCE = {
    *("--pull", "--name", "--network", "--log-driver", "--user", "--userns", "--memory"),
    *("--shm-size", "--workdir", "--entrypoint"),
}
REPEATED = {"--mount", "--env", "--security-opt"}
EXPECTED = {
    "--pull": "never",
    "--log-driver": "none",
    "--security-opt": ["no-new-privileges", "label=disable"],
}
# In the container's Python: only what is mounted, or belongs to the image, can be opened.
WALLS = """
import json, os, sys
ours, seen, written = json.loads(os.environ["FAKE_DOCKER_WALLS"])

def below(path, folders):
    return any(path == each or path.startswith(each + os.sep) for each in folders)

def walls(event, arguments):
    if event != "open" or not isinstance(arguments[0], str):
        return
    path = os.path.abspath(arguments[0])
    if not below(path, ours + seen):
        raise FileNotFoundError(2, "No such file or directory", path)
    writes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes and not below(path, written + ["/dev", "/proc"]):
        raise OSError(30, "Read-only file system", path)

sys.addaudithook(walls)
"""


def main() -> None:
    state, arguments = Path(sys.argv[1]), sys.argv[2:]
    refuses = _json(state / "refuses.json")
    if arguments[0] in refuses:
        said, code = refuses[arguments[0]]
        fail(said, code)
    match arguments:
        case ["--version"]:
            print((state / "version").read_text())
        case ["info", "--format", "{{json .SecurityOptions}}"]:
            print((state / "security.json").read_text())
        case ["image", "inspect", "--format", "{{.Id}}", name]:
            print(image(state, name)["id"])
        case ["kill", name] | ["rm", "--force", name]:
            end(state, name)
        case ["run", *rest]:
            run(state, rest)
        case _:
            fail(f"unknown command: {arguments}", 125)


def fail(said: str, code: int) -> NoReturn:
    sys.stderr.write(said + "\n")
    sys.exit(code)


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def image(state: Path, wanted: str) -> Any:
    for name, found in _json(state / "images.json").items():
        if wanted in {name, found["id"]}:
            return found
    fail(f"Error response from daemon: no such image: {wanted}: No such image: {wanted}", 1)


def end(state: Path, name: str) -> None:
    record = state / "containers" / name
    if not record.exists():
        fail(f"Error response from daemon: No such container: {name}", 1)
    kill_all(int(record.read_text()))


def kill_all(pid: int) -> None:
    """What the end of a container's first process does to all in it."""
    try:
        found = psutil.Process(pid)
        for each in [found, *found.children(recursive=True)]:
            each.kill()
    except psutil.NoSuchProcess:
        return


def parse(arguments: list[str]) -> tuple[dict[str, Any], str, list[str]]:
    """Flags, image, and what the entry point is given."""
    flags: dict[str, Any] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag in ALONE:
            flags[flag] = True
        elif flag in REPEATED:
            flags.setdefault(flag, []).append(rest.pop(0))
        elif flag in ONCE and flag not in flags:
            flags[flag] = rest.pop(0)
        else:
            fail(f"unknown flag: {flag}\n\nRun 'docker run --help' for more information", 125)
    lacking = (ALONE | ONCE | REPEATED) - {"--userns"} - flags.keys()
    if lacking:
        fail(f"stand-in: expected {sorted(lacking)}", 125)
    for flag, wanted in EXPECTED.items():
        if flags[flag] != wanted:
            fail(f"stand-in: {flag} is {flags[flag]}, expected {wanted}", 125)
    return flags, rest[0], rest[1:]


def mounted(texts: list[str]) -> dict[str, bool]:
    """Folder to whether it can be written to."""
    found = {}
    for text in texts:
        fields = next(csv.reader([text]))
        named = dict(field.split("=", 1) for field in fields if "=" in field)
        source, folder = named["source"], named["destination"]
        if named.keys() != {"type", "source", "destination"} or named["type"] != "bind":
            fail(f'invalid argument "{text}" for "--mount" flag', 125)
        if not Path(source).is_dir():
            fail(
                f"docker: Error response from daemon: bind source path does not exist: {source}",
                125,
            )
        if os.path.realpath(folder) != source:
            fail(f"stand-in: {folder} is another folder inside than out here", 125)
        found[folder] = "readonly" not in fields
    return found


def below(path: str, folders: list[str]) -> bool:
    return any(path == each or path.startswith(each + os.sep) for each in folders)


def writable(mounts: dict[str, bool]) -> list[str]:
    return [each for each, can in mounts.items() if can]


def run(state: Path, arguments: list[str]) -> None:
    flags, name, given = parse(arguments)
    found, mounts = image(state, name), mounted(flags["--mount"])
    settings = dict(each.split("=", 1) for each in flags["--env"])
    for what in (flags["--workdir"], settings["HOME"], settings["TMPDIR"]):
        if not below(what, writable(mounts)):
            fail(f"stand-in: {what} cannot be written to", 125)
    python = found["pythons"].get(flags["--entrypoint"])
    if python is None:
        fail(
            f"[FATAL tini (7)] exec {flags['--entrypoint']} failed: No such file or directory", 127
        )
    unseen = [each for each in given if each.startswith("/") and not below(each, list(mounts))]
    if unseen:
        fail(f"{python}: can't open file {unseen[0]!r}: [Errno 2] No such file or directory", 2)
    walls = state / "walls"
    walls.mkdir(exist_ok=True)
    (walls / "sitecustomize.py").write_text(WALLS)
    own = [sys.prefix, sys.base_prefix, "/usr", "/lib", "/etc", "/dev", "/proc", "/sys", str(walls)]
    path = os.pathsep.join(filter(None, [str(walls), found["env"].get("PYTHONPATH", "")]))
    own += [os.path.realpath(each) for each in path.split(os.pathsep)] + path.split(os.pathsep)
    readable = [own, list(mounts), writable(mounts)]
    environment = {**found["env"], **settings, "PYTHONPATH": path}
    environment["FAKE_DOCKER_WALLS"] = json.dumps(readable)
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        code = os.read(told, 16)  # the client waits, and can be killed without its container
        sys.exit(int(code or b"137"))
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(told)
    process = subprocess.Popen(
        [python, *given],
        stdin=subprocess.PIPE,
        env=environment,
        cwd=flags["--workdir"],
        start_new_session=True,
    )
    supervise(state, process, tell, arguments=arguments, mounts=mounts)


def supervise(
    state: Path,
    process: "subprocess.Popen[bytes]",
    tell: int,
    *,
    arguments: list[str],
    mounts: dict[str, bool],
) -> None:
    """Be the daemon of one container until it ends."""
    record = state / "containers" / arguments[arguments.index("--name") + 1]
    record.parent.mkdir(exist_ok=True)
    record.write_text(str(process.pid))
    assert process.stdin is not None
    refused: list[str] = []
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(tell, select.POLLERR)
    rest = b""
    while process.poll() is None:
        for descriptor, _ in poll.poll(20):
            block = os.read(0, 1 << 20) if descriptor == 0 else b""
            if not block:  # nobody asks any more, or the client is gone
                process.stdin.close()
                poll.unregister(descriptor)
                continue
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                refused += unseen(json.loads(line), mounts)
                if refused:
                    kill_all(process.pid)
                with contextlib.suppress(OSError):
                    process.stdin.write(line + b"\n")
                    process.stdin.flush()
    kill_all(process.pid)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    with (state / "ran.jsonl").open("a") as file:
        told = {"arguments": arguments, "code": code, "refused": refused}
        file.write(json.dumps(told) + "\n")
    record.unlink()
    with contextlib.suppress(OSError):  # the client was killed
        os.write(tell, str(code).encode())
    os._exit(0)


def unseen(request: dict[str, Any], mounts: dict[str, bool]) -> list[str]:
    """What a request names that is not in the container, or is to be written and cannot be."""
    given = request.get("arguments", {})
    texts = [each for each in [*given.values(), *given.get("options", {}).values()]]
    paths = [each for each in texts if isinstance(each, str) and each.startswith("/")]
    found = [each for each in paths if not below(each, list(mounts))]
    return found + [
        given[key]
        for key in ("output", "outputs", "states")
        if key in given and not below(given[key], writable(mounts))
    ]


if __name__ == "__main__":
    main()
