"""Shared by all engines: the facts that they log, epochs of synthetic batches.

Imports: base, data, engine, events, sampling; numpy.
"""
