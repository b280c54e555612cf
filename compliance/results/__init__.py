"""Sets of runs: scores, comparison of sets, Chrome traces.

Imports: base, checking, logs, tracks; numpy (late).
"""
