"""Arguments as CLI11, the real command's parser, takes them: its refusals and its exit codes."""

from pathlib import Path
from types import SimpleNamespace

CONVERSION, VALIDATION, REQUIRED, REQUIRES, EXCLUDES, EXTRAS, INVALID, MISMATCH = (
    104,
    105,
    106,
    107,
    108,
    109,
    111,
    114,
)


class Refused(Exception):
    """What the parser says, and the exit code that goes with it."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


def option(names, check=None, default=None, *, flag=False, needs=(), excludes=()):
    """An option by its names, the long one last: `check` makes a value or answers what is wrong."""
    words = names.split(",")
    return SimpleNamespace(
        names=words,
        name=words[-1],
        key=words[-1].lstrip("-").replace("-", "_"),
        check=check or text,
        default=False if flag else default,
        flag=flag,
        needs=needs,
        excludes=excludes,
    )


def text(word):
    """Any word."""
    return word, ""


def positive(word):
    """A number above zero."""
    number = int(word) if word.isdigit() else 0
    return number, "" if number else f"Number less or equal to 0: {word}"


def natural(word):
    """A number from zero."""
    return (int(word), "") if word.isdigit() else (0, f"Number less than 0: {word}")


def member(*known):
    """One of these words, or numbers."""
    values = {str(value): value for value in known}

    def check(word):
        return values.get(word), "" if word in values else f"{word} not in {{{','.join(values)}}}"

    return check


def json_file(word):
    """A path that ends in .json."""
    wrong = "" if word.endswith(".json") else f"File name {word} should have suffix .json"
    return word, wrong


def existing_file(word):
    """A file that is there."""
    return word, "" if Path(word).is_file() else f"File does not exist: {word}"


def existing(word):
    """A file or a folder that is there."""
    found = Path(word).exists()
    absent = f"(File does not exist: {word}) OR (Directory does not exist: {word})"
    return word, "" if found else absent


def first(words, known, absent=()):
    """(subcommand, the words after it)."""
    if not words:
        message = "A subcommand is required"
        raise Refused(message, REQUIRED)
    if words[0] in absent:
        message = f"stand-in: it has no {words[0]}"
        raise Refused(message, INVALID)
    if words[0] not in known:
        message = f"The following argument was not expected: {words[0]}"
        raise Refused(message, EXTRAS)
    return words[0], words[1:]


def parse(words, options, positional=None):
    """The values by key, `given` the names said; `positional` is an option without dashes."""
    by_name = {name: one for one in options for name in one.names}
    values = {one.key: one.default for one in options}
    if positional:
        values[positional.key] = None
    given, extra, rest = set(), [], list(words)
    while rest:
        word = rest.pop(0)
        name, value = split(word)
        one = by_name.get(name)
        if one is None and positional and values[positional.key] is None and word[:1] != "-":
            values[positional.key] = valid(positional, word)
        elif one is None:
            extra.append(word)
        else:
            given.add(one.name)
            values[one.key] = taken(one, value, rest)
    required(positional, values)
    related(options, given)
    if extra:
        argument = "argument was" if len(extra) == 1 else "arguments were"
        message = f"The following {argument} not expected: {' '.join(extra)}"
        raise Refused(message, EXTRAS)
    return SimpleNamespace(**values), given


def split(word):
    """(name, value or None) of `--name=value`, `--name` or `-nvalue`."""
    if word.startswith("--"):
        name, sign, value = word.partition("=")
        return name, value if sign else None
    if word.startswith("-") and len(word) > 2:
        return word[:2], word[2:]
    return word, None


def taken(one, value, rest):
    """The value of an option, from its own word or the next."""
    if one.flag:
        return True
    if value is None:
        if not rest:
            message = f"{one.name}: 1 required TEXT missing"
            raise Refused(message, MISMATCH)
        value = rest.pop(0)
    return valid(one, value)


def valid(one, word):
    """The value of this word."""
    value, wrong = one.check(word)
    if wrong and word.replace(".", "", 1).isdigit() and not word.isdigit():
        message = f"Could not convert: {one.name} = {word}"
        raise Refused(message, CONVERSION)
    if wrong:
        message = f"{one.name}: {wrong}"
        raise Refused(message, VALIDATION)
    return value


def required(positional, values):
    """Refuse where the positional is missing."""
    if positional and values[positional.key] is None:
        message = f"{positional.name} is required"
        raise Refused(message, REQUIRED)


def related(options, given):
    """Refuse what goes not together, or not alone."""
    for one in options:
        if one.name not in given:
            continue
        for other in one.needs:
            if other not in given:
                message = f"{one.name} requires {other}"
                raise Refused(message, REQUIRES)
        for other in one.excludes:
            if other in given:
                message = f"{one.name} excludes {other}"
                raise Refused(message, EXCLUDES)


def refuse_unless(condition, message):
    """As the real command's own checks after parsing."""
    if not condition:
        raise Refused(message, INVALID)
