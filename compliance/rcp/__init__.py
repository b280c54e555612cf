"""Reference convergence points: calibration files, public logs, `convergence`.

Imports: base, checking, logs, results, tracks; nothing else.
"""
