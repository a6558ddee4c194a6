"""Model scripts: the grammar, and the commands with their arguments."""

import inspect
import re

from hailo_sdk_client.sdk_backend.script_parser import commands
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    AllocatorScriptParserException,
    BackendScriptParserException,
)

TOKEN = re.compile(
    r"""(?P<space>\s+)
      | "(?P<text>[^"\n]*)"
      | (?P<time>\d+[smh]\b)
      | (?P<number>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)(?![\w])
      | (?P<name>[A-Za-z_*][\w*./-]*)
      | (?P<mark>[()\[\]{},=])""",
    re.VERBOSE,
)
CLOSES = {"[": "]", "{": "}"}
# the grammar wants a name for the layer that these add
MUST_NAME = {"normalization", "input_conversion"}


class Name(str):
    """A word without quotes: a layer, a keyword."""


def parse(script, network):
    """The commands of a script, checked against a network; as dicts with `command` and `line`.

    Comments are no part of the grammar. Raises BackendScriptParserException where the text cannot
    be read, AllocatorScriptParserException for a wrong argument, HailoNNException for a layer that
    is not there.
    """
    found = []
    tokens = _tokens(script)
    while tokens[0][0] != "end":
        names, word, at = _head(tokens, script)
        if word not in commands.KNOWN or (word in MUST_NAME) != bool(names):
            raise _failed(script, at)
        positional, named = _arguments(tokens, script)
        signature = inspect.signature(commands.KNOWN[word])
        try:
            signature.bind(network, *positional, **named)
        except TypeError as error:
            known = [*signature.parameters][1:]
            odd = [name for name in named if name not in known]
            text = f"No argument named {odd[0]}" if odd else str(error)
            message = f"{text} in command {word}. Arguments: {', '.join(known)}"
            raise AllocatorScriptParserException(message) from error
        record = commands.KNOWN[word](network, *positional, **named) or {}
        line = script[at : tokens[0][2]].strip() if tokens[0][0] != "end" else script[at:].strip()
        found.append({"command": word, "names": names, "line": line, **record})
    return found


def _failed(script, at):
    line = script[at:].split("\n", 1)[0]
    return BackendScriptParserException(f"Parsing failed at:\n>!<{line}")


def _tokens(script):
    """Kind, value and place of each token, and an end."""
    found, at = [], 0
    while at < len(script):
        match = TOKEN.match(script, at)
        if match is None:
            raise _failed(script, at)
        kind, value = match.lastgroup, match.group(match.lastgroup)
        if kind == "number":
            value = float(value) if re.search(r"[.eE]", value) else int(value)
        elif kind in {"name", "time"}:
            value = Name(value)
        if kind != "space":
            found.append((kind, value, at))
        at = match.end()
    return [*found, ("end", "", len(script))]


def _take(tokens, script, kind, value=None):
    found = tokens[0]
    if found[0] != kind or (value is not None and found[1] != value):
        raise _failed(script, found[2])
    return tokens.pop(0)[1]


def _head(tokens, script):
    """The names a command gives to what it makes, the command, and where it begins."""
    at, names = tokens[0][2], []
    word = _take(tokens, script, "name")
    while tokens[0][:2] == ("mark", ","):
        tokens.pop(0)
        names.append(word)
        word = _take(tokens, script, "name")
    if tokens[0][:2] == ("mark", "="):
        tokens.pop(0)
        names.append(word)
        word = _take(tokens, script, "name")
    elif names:
        raise _failed(script, at)
    _take(tokens, script, "mark", "(")
    return names, word, at


def _arguments(tokens, script):
    positional, named = [], {}
    while tokens[0][:2] != ("mark", ")"):
        if tokens[0][0] == "name" and tokens[1][:2] == ("mark", "="):
            key = str(_take(tokens, script, "name"))
            tokens.pop(0)
            named[key] = _value(tokens, script)
        elif named:
            raise _failed(script, tokens[0][2])
        else:
            positional.append(_value(tokens, script))
        if tokens[0][:2] != ("mark", ")"):
            _take(tokens, script, "mark", ",")
    tokens.pop(0)
    return positional, named


def _value(tokens, script):
    """A number, a word, a text in quotes, or a list or set of these."""
    kind, value, at = tokens.pop(0)
    if kind in {"number", "name", "text", "time"}:
        return value
    if kind != "mark" or value not in CLOSES:
        raise _failed(script, at)
    items = []
    while tokens[0][:2] != ("mark", CLOSES[value]):
        items.append(_value(tokens, script))
        if tokens[0][:2] != ("mark", CLOSES[value]):
            _take(tokens, script, "mark", ",")
    tokens.pop(0)
    return items
