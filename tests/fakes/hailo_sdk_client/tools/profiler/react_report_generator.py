"""The report of a profile: a page that says it is a stand-in's, and a table as text."""

import html
from pathlib import Path


class ReactReportGenerator:
    """Of what `ClientRunner.profile` gave, into a file."""

    def __init__(self, export, out_path):
        self._export, self._path = export, Path(out_path)

    def create_report(self, should_open_web_browser=True):
        """Write the page; answers the layers as lines of comma-separated values."""
        if should_open_web_browser:
            message = "this stand-in opens no browser: give should_open_web_browser=False"
            raise ValueError(message)
        rows = [f"{row['layer_name']},{row['type']}" for row in self._export["layers"]]
        table = "\n".join(["layer_name,type", *rows])
        name = html.escape(self._export["stats"]["model_name"])
        page = f"<!doctype html><title>{name}, by a stand-in</title><pre>{html.escape(table)}</pre>"
        self._path.write_text(page, encoding="utf-8")
        return table
