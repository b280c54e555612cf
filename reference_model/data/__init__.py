"""Datasets: download, leave-one-out split, split file, generated data.

Imports: base, events, ratings; numpy.
"""
