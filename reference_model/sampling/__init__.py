"""Sampling in NumPy: random streams, negatives, evaluation lists, an epoch's batches.

Imports: base, data, events; numpy.
"""
