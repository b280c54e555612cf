"""Ratings files: layout detection, parsing of text and times, conversion to arrays.

Imports: base; numpy.
"""
