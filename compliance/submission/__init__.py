"""Submission trees: `package` makes one, `check` checks one.

Imports: base, checking, logs, results, tracks; nothing else.
"""
