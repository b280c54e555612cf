"""Compares the speed of this project and its peers on the same data and sizes: `scripts/peers.sh`.

The peers are `model-garden`, the NCF of TensorFlow's model garden as installed from the package
index, in its own environment; `keras`, plain Keras `fit` on this project's model with one epoch
prepared in advance; and `ours`. Each measurement is a process that reads a `Job` and prints
one JSON line. `compare.py` runs the processes in turn and writes the lines to a file;
`summary.py` creates the tables.
"""
