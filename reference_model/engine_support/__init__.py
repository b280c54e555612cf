"""Shared by all engines: logging of facts, epochs of synthetic batches.

Imports: base, data, engine, events, sampling; numpy.
"""
