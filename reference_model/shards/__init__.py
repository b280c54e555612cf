"""TFRecord shards of precomputed batches, and the engine that trains on them.

Imports: base, data, engine, engine_support, events, sampling; numpy, tensorflow.
"""
