"""Shared by all packages of the reference model: configuration, errors, metrics, files, arrays.

Imports: nothing else of reference_model; numpy.
"""
