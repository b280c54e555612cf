"""Formats answers as text, JSON, CSV and Markdown; generates the pages on rules and log keys.

Imports: base, checking, checking.checks, logs, rcp, results, submission; nothing else.
"""
