"""The plain Keras engine: slow and readable, the reference for every other engine.

Imports: base, data, device_sampling, engine, engine_support, events, model, sampling; keras,
numpy, tensorflow.
"""
