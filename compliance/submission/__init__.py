"""Submission trees: `package` makes one, `check` checks one.

Imports: base, checking, checking.checks, logs, results, tracks; nothing else.
"""
