"""The plain Keras engine: slow and readable, the reference for all other engines.

Imports: base, data, device_sampling, engine, engine_support, events, model, sampling; keras,
numpy, tensorflow.
"""
