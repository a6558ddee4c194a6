"""The parity ladder of a row as the HTML page shows it."""

from typing import NamedTuple

from edgedeploy.records import Ladder, Rung
from edgedeploy.report import charts
from edgedeploy.report.sections import Bar
from edgedeploy.report.text import MINUS, NULL

WORST_LAYERS = 8


class Step(NamedTuple):
    """One rung of the parity ladder as text."""

    rung: Rung
    max_error: str
    mean_error: str
    snr: str
    cosine: str
    top1: str
    verdict: str


def ladder(held: Ladder) -> list[Step]:
    """Every rung as text; the first broken one is marked by its verdict."""
    return [
        Step(
            rung,
            _sign(rung.max_abs_error, ".2e"),
            _sign(rung.mean_abs_error, ".2e"),
            "equal" if rung.equal else _sign(rung.snr_db, ".1f", " dB"),
            _sign(rung.cosine, ".6f"),
            _sign(None if rung.top1_agreement is None else 100 * rung.top1_agreement, ".1f", " %"),
            _verdict(rung),
        )
        for rung in held.rungs
    ]


def _verdict(rung: Rung) -> str:
    if rung.broken:
        return "broken"
    if rung.reason is not None:
        return "not checked"
    return "equal" if rung.equal else "holds"


def worst_layers(held: Ladder) -> list[Bar]:
    """The layers that lose the most to quantization, lowest SNR first; the bar is the SNR."""
    known = [(e.snr_db, e.layer) for e in held.layers if e.snr_db is not None]
    worst = sorted(known)[:WORST_LAYERS]
    highest = max((snr for snr, _ in worst), default=1.0) or 1.0
    return [
        Bar(name, "", f"{snr:.1f} dB", charts.bar(max(0.0, snr) / max(highest, 1e-9)))
        for snr, name in worst
    ]


def _sign(value: float | None, form: str, unit: str = "") -> str:
    return NULL if value is None else f"{value:{form}}{unit}".replace("-", MINUS)
