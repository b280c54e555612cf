"""Sampling in TensorFlow: random words, negatives drawn on the device, an epoch's order.

Imports: base, data, sampling; numpy, tensorflow.
"""
