"""NeuMF in Keras, and Adam, sparse Adam and the L2 penalty on plain tensors.

Imports: base, sampling; keras, numpy, tensorflow.
"""
