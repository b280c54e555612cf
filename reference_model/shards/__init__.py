"""TFRecord shards of batches that are drawn in advance, and the engine that trains on them.

Imports: base, data, engine, engine_support, events, sampling; numpy, tensorflow.
"""
