"""The parent process: a set of runs from flags to verdict.

Imports: base, config, devices, inputs, logs, processes, results; compliance.checking,
compliance.results, reference_model.base, reference_model.data.
"""
