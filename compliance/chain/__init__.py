"""The chain of attempts: the ledger, and in each log the record of its place in the chain.

Imports: base, logs; nothing else.
"""
