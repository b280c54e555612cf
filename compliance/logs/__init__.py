"""Reads logs: their keys, their dialects, the facts that they state, timelines, stage times.

Imports: base; nothing else.
"""
