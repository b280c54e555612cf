"""Answers as text, JSON, CSV, Markdown; the generated pages on rules and log keys.

Imports: checking, logs, rcp, results, submission; nothing else.
"""
