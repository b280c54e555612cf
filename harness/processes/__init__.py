"""Child processes: trials, their pipe to the parent, the watchdog, TensorFlow helpers.

Imports: base, config, logs, results; compliance.chain, reference_model.base.
"""
