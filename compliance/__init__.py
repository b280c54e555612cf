"""Judging benchmark logs: tracks, log keys, dialects, rules, scoring, reports.

Needs no TensorFlow, and imports nothing of the other half: log files are all
that passes between the two. Importing this package imports none of its parts.

Imports: jinja2, markupsafe, matplotlib, msgspec, numpy, shtab (late), yaml.
"""
