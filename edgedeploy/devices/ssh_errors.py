"""What ssh and the shell over there say when a session cannot begin, or breaks, and what to do."""

import re
from typing import NamedTuple

from edgedeploy.errors import ConnectionLostError, EdgeDeployError, MissingError

OLDEST = "3.8"


class Cause(NamedTuple):
    """A way to fail: how ssh says it, in our words, and the remedy. `passing` ones may be over
    when tried again.
    """

    said: re.Pattern[str]
    what: str
    hint: str
    passing: bool = False


def _cause(said: str, what: str, hint: str, *, passing: bool = False) -> Cause:
    return Cause(re.compile(said, re.IGNORECASE), what, hint, passing)


BY_HAND = "Connect once by hand and compare the fingerprint: ssh {host}"
# The first that fits the last words of ssh.
CAUSES = (
    _cause(
        "REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
        "the host key of {host} is another than the one known: {line}",
        "Find out why (a new system on it?), remove the old key as ssh says, connect once by hand.",
    ),
    _cause(
        "Host key verification failed|No .*host key is known",
        "the host key of {host} is not known: {line}",
        BY_HAND,
    ),
    _cause(
        "Permission denied|Too many authentication failures|No supported authentication",
        "{host} does not let you in: {line}",
        "It must work without a password: ssh-copy-id {host}, or ssh-add for a key with one.",
    ),
    _cause(
        "Could not resolve hostname|Name or service not known",
        "the name of {host} is not known: {line}",
        "Correct {variable} or devices.toml, or give ~/.ssh/config an entry for it.",
    ),
    _cause(
        "Connection refused",
        "{host} has no ssh server running: {line}",
        "Start it over there, or give its port in ~/.ssh/config.",
        passing=True,
    ),
    _cause(
        r"timed out|No route to host|(Network|Host) is (unreachable|down)",
        "{host} cannot be reached: {line}",
        "Is it on, and in this network? Try: ssh {host}",
        passing=True,
    ),
    _cause(
        r"(closed|reset|aborted) by|kex_exchange_identification|Connection closed|Broken pipe"
        r"|not responding",
        "{host} closed the connection: {line}",
        "Try: ssh {host}",
        passing=True,
    ),
    _cause(
        r"Bad configuration option|command-line: line|Can't open user config|terminating, \d+ bad",
        "ssh refuses its configuration: {line}",
        "Correct ~/.ssh/config; ssh must be OpenSSH 7.6 or later.",
    ),
)
OLD_PYTHON = re.compile(r"Unknown option: -I|No module named '?typing", re.IGNORECASE)
OTHER_PYTHON = "Name one in devices.toml: python = ..., or install it over there."


def refused(host: str, python: str, variable: str, code: int, said: str) -> EdgeDeployError:
    """The error for a session that did not begin: ssh's exit code, and what it printed.

    `ConnectionLostError` where trying again may help, else `MissingError`.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "it says nothing"
    if old := [line for line in lines if OLD_PYTHON.search(line)]:
        msg = f"{python} on {host} is older than Python {OLDEST}: {old[-1]}"
        return MissingError(msg, hint=OTHER_PYTHON, log=said)
    if code in (126, 127):
        msg = f"no Python can be started as {python} on {host}: {last}"
        return MissingError(msg, hint=OTHER_PYTHON, log=said)
    for cause in CAUSES if code == 255 else ():
        found = [line for line in lines if cause.said.search(line)]
        if found:
            words = {"host": host, "line": found[-1].strip("@ "), "variable": variable}
            kind = ConnectionLostError if cause.passing else MissingError
            return kind(cause.what.format(**words), hint=cause.hint.format(**words), log=said)
    if code == 255:
        msg = f"the connection to {host} ended before anything was said: {last}"
        return ConnectionLostError(msg, hint=f"Try: ssh {host}", log=said)
    msg = f"{python} on {host} ended with exit code {code} before it was asked anything: {last}"
    return MissingError(msg, hint=OTHER_PYTHON, log=said)


def last_words(said: str) -> str:
    """What ssh itself said of the end of a session, among all that was printed; else nothing."""
    lines = [line.strip() for line in said.splitlines()]
    found = [line for line in lines if any(cause.said.search(line) for cause in CAUSES)]
    return found[-1] if found else ""
