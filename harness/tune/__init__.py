"""`--tune`: looks for the settings with the least expected time to the target on this machine.

Imports: base, config, devices, inputs, launcher, processes, results; compliance.checking,
compliance.cli, compliance.rcp, compliance.report, compliance.results, optuna (late),
reference_model.base, reference_model.data, reference_model.engine, reference_model.events,
reference_model.fused_math, reference_model.model (late), tensorflow (late).
"""
