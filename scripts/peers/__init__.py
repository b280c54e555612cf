"""Compares this project's speed with its peers' on the same data and sizes: `scripts/peers.sh`.

The peers are `model-garden`, TensorFlow's NCF as installed from the package index, in an
environment of its own; `keras`, plain Keras `fit` on this project's model with one epoch
prepared beforehand; and `ours`. Each measurement is a process that reads a `Job` and prints
one JSON line. `compare.py` runs them in turn and writes the lines to a file, `summary.py`
makes the tables.
"""
