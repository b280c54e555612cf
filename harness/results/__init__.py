"""The result tree on disk: sets, attempts, the ledger file and checkpoints.

Imports: base, config, logs; compliance.base, compliance.chain, compliance.logs,
reference_model.base, numpy.
"""
