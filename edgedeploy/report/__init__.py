"""A Report as terminal table, JSON, CSV, Markdown, LaTeX and one self-contained HTML page."""
