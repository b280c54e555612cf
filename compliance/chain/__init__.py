"""The chain of attempts: the ledger, and each log's record of its place in it.

Imports: base, logs, logs.dialects; nothing else.
"""
