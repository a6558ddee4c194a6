"""The page's colours are readable in both themes, and its script works in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from sample import sample

from edgedeploy.report import html

CSS = Path(html.__file__).with_name("report.css").read_text(encoding="utf-8")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PAIRS = [
    *((front, back) for front in ("ink", "soft", "accent") for back in ("page", "surface")),
    ("ink", "faint"),
    ("soft", "faint"),
    ("accent", "accent-soft"),
    ("warn", "warn-soft"),
    ("bad", "bad-soft"),
    ("second", "surface"),
]


def themes() -> list[dict[str, str]]:
    """Colours of the light, the dark and the printed page."""
    blocks = re.findall(r":root \{([^}]*)\}", CSS)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]
    assert len(found) == 3
    return found


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * c for c in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_text_has_the_contrast_of_wcag_aa(theme: int) -> None:
    colors = themes()[theme]
    for front, back in PAIRS:
        high, low = sorted((luminance(colors[front]), luminance(colors[back])), reverse=True)
        ratio = (high + 0.05) / (low + 0.05)
        assert ratio >= 4.5, f"{front} on {back}: {ratio:.2f}"


PROBE = """<script>
const seen = [];
const table = document.getElementById("comparison");
const names = () => Array.from(table.tBodies[0].rows, (r) => r.cells[0].textContent);
const output = () => document.querySelector("#pager output").textContent;
seen.push(output(), names().length);
const head = Array.from(table.tHead.rows[0].cells).find((h) => h.dataset.key === "latency_p50_s");
head.querySelector("button").click();
seen.push(head.getAttribute("aria-sort"), names()[0]);
head.querySelector("button").click();
seen.push(head.getAttribute("aria-sort"), names()[0]);
document.querySelector("[data-step='1']").click();
seen.push(output());
const filter = document.getElementById("filter");
filter.value = "coral";
filter.dispatchEvent(new Event("input"));
seen.push(output(), new Set(names()).size);
seen.push(document.documentElement.scrollWidth <= window.innerWidth);
document.body.textContent = "<<" + JSON.stringify(seen) + ">>";
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_sorting_paging_and_filtering_in_a_browser(tmp_path: Path) -> None:
    report, series = sample()
    rows = tuple(
        msgspec.structs.replace(report.rows[i % 9], run=f"run-{i // 9:03d}") for i in range(450)
    )
    text = html.to_html(msgspec.structs.replace(report, rows=rows), series)
    plain, probed = tmp_path / "plain.html", tmp_path / "probed.html"
    plain.write_text(text, encoding="utf-8")
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probed.write_text(without_policy.replace("</body>", PROBE), encoding="utf-8")
    # Under its own policy the page's script has run, or the table would not say so.
    assert 'class="comparison scripted"' in document(plain, tmp_path)
    found = re.search(r"&lt;&lt;(\[.*\])&gt;&gt;", document(probed, tmp_path))
    assert found is not None
    assert json.loads(found[1]) == [
        "Rows 1 to 200 of 450",
        200,
        "ascending",
        "host-openvinox86-64 host",
        "descending",
        "esp32-s3ESP32-S3 under QEMU",
        "Rows 201 to 400 of 450",
        "Rows 1 to 50 of 50",
        1,
        True,
    ]


def document(page: Path, folder: Path) -> str:
    """The document as the browser has it once the page's script has run."""
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    done = subprocess.run(
        [BROWSER, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
