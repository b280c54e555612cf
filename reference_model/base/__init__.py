"""Shared by the whole reference model: configuration, errors, metrics, files, arrays.

Imports: nothing of this room; numpy.
"""
