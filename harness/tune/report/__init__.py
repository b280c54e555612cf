"""The report of a tuner: text, JSON, flag file, page.

Imports: base; compliance.report.html, compliance.report, numpy.
"""
