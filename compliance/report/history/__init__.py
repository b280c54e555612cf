"""The answer of `history` as text, JSON, CSV and Markdown (`text`), and as a page (`page`).

Imports: base, history, report, report.html, results; markupsafe, matplotlib (late).
"""
