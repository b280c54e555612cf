"""Reading logs: keys, dialects, what a log says of its run, timelines, stage times.

Imports: base; nothing else.
"""
