"""How the command line answers: results on stdout, everything else on stderr."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgedeploy.cache import CacheEvent


def answer(record: object, json: bool, show: "Callable[[], None]") -> None:
    """A verb's result: `show` writes it for people, or it goes out as JSON."""
    if not json:
        show()
        return
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(record)).decode() + "\n")


def explain(events: "Sequence[CacheEvent]", asked: bool) -> None:
    """Cache events, all of them where asked for; damage always."""
    for event in events:
        if asked or event.outcome == "damaged":
            say(f"cache: {event.stage} of {event.subject}: {event.outcome}: {event.why}")


def say(text: str) -> None:
    """A line on stderr; whatever it quotes, it drives no terminal."""
    if not text.isprintable():
        from edgedeploy.report.text import printable

        text = printable(text)
    sys.stderr.write(text + "\n")
