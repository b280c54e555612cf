"""The trial process: one timed run from its specification to its log.

Imports: base, config, devices, inputs, logs, multi_worker, processes, results;
compliance.chain, compliance.logs, reference_model.base, reference_model.data,
reference_model.engine, reference_model.events, reference_model.fused, reference_model.pjrt, jax (late), tensorflow (late).
"""
