"""Datasets: download, the leave-one-out split, its file, generated data.

Imports: base, events, ratings; numpy, pandas.
"""
