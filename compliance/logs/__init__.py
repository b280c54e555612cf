"""Reads logs: keys, dialects, run summaries, timelines and stage times.

Imports: base; nothing else.
"""
