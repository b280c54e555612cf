"""Both engines over the replicas of a `tf.distribute` strategy.

Imports: base, data, device_sampling, engine, engine_support, fused, keras_engine, model,
sampling; numpy, tensorflow.
"""
