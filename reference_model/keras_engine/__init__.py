"""The plain Keras engine: slow, readable, the oracle of every other engine.

Imports: base, data, device_sampling, engine, engine_support, events, model, sampling; keras,
numpy, tensorflow.
"""
