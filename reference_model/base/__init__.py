"""What all of the reference model shares: configuration, errors, metrics, file helpers.

Imports: nothing of this room; numpy.
"""
