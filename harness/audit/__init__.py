"""`--audit`: a new process confirms or refutes the claims of a result log.

Imports: base, config, devices, inputs, logs, processes, results; compliance.base,
compliance.chain, compliance.logs.dialects, compliance.tracks, reference_model.base,
reference_model.data, reference_model.events.
"""
