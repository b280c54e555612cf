"""Sampling in TensorFlow: random words, negatives drawn on the device, the epoch order.

Imports: base, data, sampling; numpy, tensorflow.
"""
