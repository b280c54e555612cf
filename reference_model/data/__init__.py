"""Datasets: download, ratings files, the leave-one-out split, its file, generated data.

Imports: base, events; numpy, pandas.
"""
