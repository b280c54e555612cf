"""`regress BASELINE NEW`: whether benchmarks got slower between two recordings.

`files` reads what pytest-benchmark wrote, `judge` compares, `tables` says it.
"""
