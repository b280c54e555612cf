"""Sampling in NumPy: random streams, negatives, evaluation lists, epoch batches.

Imports: base, data, events; numpy.
"""
