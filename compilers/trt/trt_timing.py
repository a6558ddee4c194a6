"""The timing cache: what a builder timed on a card, kept between builds by card and version."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trt_card import Card

    Thing = Any  # of the library, which is an argument: its classes cannot be named


class Timings:
    """One file of the folder `states`; without a folder nothing is kept."""

    def __init__(self, states: str | None, card: Card, version: str) -> None:
        words = f"{card.name} sm{card.capability} tensorrt {version}"
        name = "timing-" + re.sub(r"[^A-Za-z0-9.+]+", "-", words).strip("-").lower() + ".cache"
        self.path = Path(states, name) if states else None
        self.cache: Thing = None
        self.before = b""
        self.warnings: list[str] = []

    def start(self, config: Thing) -> None:
        """Give `config` the cache of earlier builds, or an empty one."""
        if self.path is None:
            return
        self.before = self.path.read_bytes() if self.path.is_file() else b""
        self.cache = config.create_timing_cache(self.before)
        if self.before and not config.set_timing_cache(self.cache, ignore_mismatch=False):
            self.warnings.append(f"{self.path.name} is of another card or version: timed anew")
            self.before = b""
            self.cache = config.create_timing_cache(b"")
        if not self.before:
            config.set_timing_cache(self.cache, ignore_mismatch=False)

    def finish(self, config: Thing) -> str:
        """Write what it holds now, whole or not at all; a line about it."""
        if self.path is None:
            return ""
        data = bytes(config.get_timing_cache().serialize())
        if data != self.before:
            handle, name = tempfile.mkstemp(prefix=self.path.name, dir=str(self.path.parent))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(self.path)
        old, new = len(self.before), len(data)
        return f"timing cache: {old:,} bytes from earlier builds, {new:,} now"
