"""Answers as text, JSON, CSV, Markdown; the generated pages on rules and log keys.

Imports: base, checking, logs, rcp, results, submission; nothing else.
"""
