"""Both built-in engines over the replicas of a `tf.distribute` strategy.

Imports: base, device_sampling, engine, engine_support, events, fused, keras_engine, model,
sampling; numpy, tensorflow.
"""
