"""Runs the peers beside this project on the same data and sizes: `scripts/peers.sh`.

Peers: `model-garden`, TensorFlow's NCF as installed from the package index, in an
environment of its own; `keras`, plain Keras `fit` on this project's model with one
epoch prepared beforehand; and `ours`. Each measurement is a process that reads a
`Job` and prints one JSON line. `compare.py` alternates them and keeps the lines,
`summary.py` makes the tables.
"""
