"""The chain of attempts: the ledger, and the `attempt` record of each log.

Imports: base, logs; nothing else.
"""
