"""What every engine does alike: the facts that it logs, epochs of synthetic batches.

Imports: base, data, engine, events, sampling; numpy.
"""
