"""The inputs of a run: the prepared dataset, shards of batches, data at a URL.

Imports: base, config, processes; reference_model.base, reference_model.data,
reference_model.engine, reference_model.events, reference_model.shards, tensorflow (late).
"""
