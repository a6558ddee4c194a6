"""How each figure of a row was had: which instrument, window, file, and with which settings."""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from edgedeploy.figures import DEVICE_LATENCY, format_figure
from edgedeploy.records import Phase, Row, Series, Window
from edgedeploy.report.table import figure_label
from edgedeploy.report.text import count_of


class Origin(NamedTuple):
    """One figure, its source, and how it was had or why it was not."""

    label: str
    text: str
    source: str
    how: str


class OriginGroup(NamedTuple):
    """Figures next to each other that were had the same way."""

    source: str
    how: str
    figures: list[Origin]


class Setting(NamedTuple):
    """One option as asked for and as it took effect."""

    name: str
    requested: str
    effective: str
    changed: bool


def origins(row: Row) -> list[Origin]:
    """Every figure of a row with its origin."""
    return [
        Origin(
            figure_label(key),
            format_figure(key, figure),
            figure.source or "",
            figure.reason if figure.reason is not None else how(row, key),
        )
        for key, figure in row.figures.items()
    ]


def origin_groups(row: Row) -> list[OriginGroup]:
    """The figures of a row, neighbours with the same origin together."""
    grouped = groupby(origins(row), key=lambda origin: (origin.source, origin.how))
    return [OriginGroup(source, told, list(figures)) for (source, told), figures in grouped]


def how(row: Row, key: str) -> str:
    """Instrument, window or file behind the figure `key`; empty where the row does not say."""
    tellers: dict[tuple[str, ...], Callable[[Row, str], str]] = {
        ("artifact", "compile"): _build,
        ("parameters", "macs"): lambda row, key: "counted on the exported graph",
        ("snr_db", "top1_agreement"): _parity,
        ("accuracy",): _accuracy,
        ("latency_device",): _by_device_clock,
        ("latency_chip", "throughput_chip"): _told_by_vendor,
        ("latency",): _latency,
        ("cycles", "instructions"): _counted,
        ("throughput",): lambda row, key: _window(row, "throughput"),
        ("power", "energy"): _power,
        ("memory",): _memory,
        ("temperature",): lambda row, key: "hottest sensor of the facts, read at rest",
    }
    return next((tell(row, key) for heads, tell in tellers.items() if key.startswith(heads)), "")


def _build(row: Row, key: str) -> str:
    artifact = row.artifact
    if artifact is None:
        return ""
    if key.startswith("compile"):
        return f"duration of the compile stage{' (cached)' if row.cached.get('compile') else ''}"
    return f"size of the {artifact.format} file, sha256 {artifact.sha256[:12]}"


def _parity(row: Row, key: str) -> str:
    if row.ladder is None:
        return ""
    samples = count_of(row.ladder.samples, "sample")
    last = "deployed" if any(r.name == "deployed" for r in row.ladder.rungs) else "emulated"
    return f"outputs of the {last} artifact against the source framework's, {samples}"


def _memory(row: Row, key: str) -> str:
    if row.measurement is not None and "empty_runtime" not in row.measurement.memory_bytes:
        return "told by the firmware: model, code, arena, stack and static data in use"
    when = "loading" if "load" in key else "the latency window"
    return f"peak resident size during {when}, beyond the empty runtime's"


def _accuracy(row: Row, key: str) -> str:
    judged = row.measurement or row.emulation
    accuracy = judged.accuracy if judged is not None else None
    if accuracy is None:
        return ""
    by = f" by {row.emulation.program} on this host" if row.emulation is not None else ""
    return f"{accuracy.metric} over {count_of(accuracy.count, 'sample')} of {accuracy.data}{by}"


def _latency(row: Row, key: str) -> str:
    series = next((s for s in _series(row) if s.quantity == "latency"), None)
    taken = f", {series.instrument}, clock {series.clock}" if series is not None else ""
    return f"{_window(row, 'latency')}{taken}"


def _by_device_clock(row: Row, key: str) -> str:
    series = next((s for s in _series(row) if s.key == DEVICE_LATENCY), None)
    return f"{series.count:,} inferences, {series.scope}, clock {series.clock}" if series else ""


def _told_by_vendor(row: Row, key: str) -> str:
    told = row.measurement.vendor_figures if row.measurement is not None else ()
    return next((f"as {figure.by} says" for figure in told if figure.name == key), "")


def _counted(row: Row, key: str) -> str:
    series = next((s for s in _series(row) if s.quantity == key), None)
    return f"mean of {series.count:,}, {series.scope}" if series is not None else ""


def _power(row: Row, key: str) -> str:
    sensors = [s for s in _series(row) if s.quantity in ("power", "energy")]
    whole = [s for s in sensors if s.total] or sensors
    used = [s for s in whole if s.instrument == whole[0].instrument]
    named = ", ".join(f"{s.instrument} {s.scope}" for s in used) or "no instrument recorded"
    window = _window(row, "idle" if "idle" in key else "latency")
    return f"{named}; {window}{', less the idle power' if 'net' in key else ''}"


def _series(row: Row) -> tuple[Series, ...]:
    return row.measurement.series if row.measurement is not None else ()


def _window(row: Row, phase: Phase) -> str:
    windows = row.measurement.windows if row.measurement is not None else ()
    found = [w for w in windows if w.phase == phase]
    if not found:
        return f"no {phase.replace('_', ' ')} window recorded"
    window = max(found, key=_rate)
    seconds = (window.end_ns - window.start_ns) / 1e9
    counted = f", {count_of(window.count, 'inference')}" if window.count else ""
    flight = f", {window.concurrency} in flight" if window.count else ""
    return f"{phase.replace('_', ' ')} window of {seconds:.3g} s{counted}{flight}"


def _rate(window: Window) -> float:
    return window.count / max(1, window.end_ns - window.start_ns)


def settings(requested: Mapping[str, Any], effective: Mapping[str, Any]) -> list[Setting]:
    """Options side by side, by name; `changed` where something else took effect than was asked."""
    return [
        Setting(
            name,
            show(requested[name]) if name in requested else "",
            show(effective[name]) if name in effective else "",
            name in requested and name in effective and requested[name] != effective[name],
        )
        for name in sorted({*requested, *effective})
    ]


def fact_groups(row: Row) -> list[tuple[str, list[tuple[str, str]]]]:
    """What else may explain the figures: hashes, versions, device and host before and after."""
    artifact, deployment, measurement = row.artifact, row.deployment, row.measurement
    groups: list[tuple[str, Mapping[str, Any]]] = []
    if artifact is not None:
        hashes = {
            "artifact sha256": artifact.sha256,
            "model sha256": artifact.model_sha256,
            "calibration": artifact.calibration_fingerprint,
            "format": artifact.format,
            "compile peak memory, bytes": artifact.peak_memory_bytes,
            "warnings": "; ".join(artifact.warnings),
            "graph": "; ".join(artifact.notes),
            "fit": artifact.fit,
        }
        groups += [("Artifact", hashes), ("Compiler versions", artifact.tools)]
    if deployment is not None:
        deployed = {"device": deployment.device, "transport": deployment.transport}
        deployed |= {"identity": deployment.identity}
        deployed |= {"path": deployment.path, "deployed at": deployment.deployed_at}
        groups.append(("Deployment", {**deployed, **deployment.facts}))
    if measurement is not None:
        after = {k: v for k, v in measurement.facts_after.items() if measurement.facts.get(k) != v}
        groups += [
            ("Runtime versions", measurement.tools),
            ("While measuring", measurement.facts),
            ("Changed by the end", after),
        ]
    groups.append(("Stages, seconds", row.stage_s))
    groups.append(("From the cache", {k: "yes" if v else "no" for k, v in row.cached.items()}))
    return [(title, found) for title, values in groups if (found := facts(values))]


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts as name and text, nested ones by a dotted name; null ones are left out."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", text) for inner, text in facts(value)]
        elif value is not None and value not in ("", []):
            found.append((str(name), show(value)))
    return found


def show(value: object) -> str:
    """A setting or fact as text: a string as it is, anything else as compact JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, int | float | str) for v in value):
        return ", ".join(show(v) for v in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return msgspec.json.encode(value).decode()
