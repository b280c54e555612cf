"""The parent process: runs a set of trials, from the flags to the verdict.

Imports: base, config, devices, inputs, logs, processes, results; compliance.checking,
compliance.results, reference_model.base, reference_model.data.
"""
