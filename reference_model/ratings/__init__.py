"""Ratings files: their layout, their text, their times, and the arrays that they become.

Imports: base; numpy, pandas.
"""
