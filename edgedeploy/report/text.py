"""What every renderer says alike: names of rows, marks of sources, text safe to print."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from edgedeploy.records import Row, Source

TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
NULL = "\N{EM DASH}"

MARKS: dict[Source, str] = {"measured": "m", "emulated": "e", "estimated": "s", "published": "p"}
SUPERSCRIPTS: dict[Source, str] = {
    "measured": "\N{MODIFIER LETTER SMALL M}",
    "emulated": "\N{MODIFIER LETTER SMALL E}",
    "estimated": "\N{MODIFIER LETTER SMALL S}",
    "published": "\N{MODIFIER LETTER SMALL P}",
}
MEANINGS: dict[Source, str] = {
    "measured": "measured on the device, file sizes on this host",
    "emulated": "emulated by a simulator, a stand-in or another toolchain in the device's place",
    "estimated": "estimated by a formula",
    "published": "published by its source",
}

# Characters that reorder the text around them: a name must not be able to disguise another.
_REORDERING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` without control and text-reordering characters, which could drive a terminal.

    Line feeds and tabs stay; any other such character becomes U+FFFD.
    """
    if text.isprintable():
        return text
    return "".join("\ufffd" if _unsafe(character) else character for character in text)


def _unsafe(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _REORDERING or unicodedata.category(character) in {"Cc", "Cs"}


def one_line(text: str) -> str:
    """`text` printable and on a single line."""
    return " ".join(printable(text).split())


def row_names(rows: Sequence[Row]) -> list[str]:
    """A name for each row, as short as tells the rows apart: target, precision, workload, run."""
    several = len({row.workload for row in rows}) > 1
    names = [
        one_line(f"{row.workload} {row.target} {row.precision}" if several else _plain_name(row))
        for row in rows
    ]
    counts = Counter(names)
    return [
        f"{name} ({one_line(row.run)})" if counts[name] > 1 else name
        for name, row in zip(names, rows, strict=True)
    ]


def _plain_name(row: Row) -> str:
    return f"{row.target} {row.precision}"


def sentence(text: str) -> str:
    """`text` on one line, ending in a full stop so that another sentence can follow."""
    line = one_line(text)
    return line if line.endswith((".", "!", "?", ":")) or not line else f"{line}."


def legend(sources: Iterable[Source]) -> str:
    """What the marks mean; one source needs no marks and is named in a sentence."""
    present = [source for source in MARKS if source in set(sources)]
    if not present:
        return ""
    if len(present) == 1:
        return f"All figures are {MEANINGS[present[0]]}."
    return "; ".join(f"{SUPERSCRIPTS[source]} {MEANINGS[source]}" for source in present) + "."


def count_of(number: int, noun: str, plural: str = "") -> str:
    """`1 row`, `2 rows`, `1,234 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
