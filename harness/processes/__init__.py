"""Child processes: a trial and its pipe to the parent, its watchdog, TensorFlow helpers.

Imports: base, config, logs, results; compliance.chain, reference_model.base.
"""
