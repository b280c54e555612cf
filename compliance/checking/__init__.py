"""`check`: rule files, the checks that they use, verdicts on logs and sets.

Imports: base, logs, logs.dialects, tracks; nothing else.
"""
