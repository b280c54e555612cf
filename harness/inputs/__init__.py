"""The inputs of a run: the prepared dataset, shards of batches, data at a URL; new track files.

Imports: base, config, devices, logs, processes; compliance.base, compliance.tracks,
reference_model.base, reference_model.data, reference_model.engine, reference_model.events,
reference_model.fused (late), reference_model.pjrt (late), reference_model.ratings,
reference_model.shards, tensorflow (late).
"""
