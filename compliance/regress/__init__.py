"""`regress BASELINE NEW`: whether benchmarks got slower between two recordings.

Imports: base, logs.dialects, report; nothing else.
"""
