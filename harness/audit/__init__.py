"""`--audit`: a new process confirms or refutes what a log claims.

Imports: base, config, devices, inputs, logs, processes, results; compliance.chain,
compliance.logs.dialects, compliance.tracks, reference_model.base, reference_model.data,
reference_model.events.
"""
