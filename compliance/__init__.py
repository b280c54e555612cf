"""Validation of benchmark logs: tracks, log keys, dialects, rules, scoring, reports.

The package needs no TensorFlow and imports nothing from the harness; it reads
log files. Importing the package imports none of its modules.

Imports: jinja2, markupsafe, matplotlib, msgspec, numpy, shtab (late), yaml.
"""
