"""TFRecord shards of batches drawn in advance, and the engine that trains on them.

Imports: base, data, engine, engine_support, events, sampling; numpy, tensorflow.
"""
