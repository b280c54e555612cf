"""The report of a tuner: text, JSON, flag file, page.

Imports: base, config, tune, tune.learning; compliance.report, compliance.report.html, markupsafe,
matplotlib (late), optuna (late).
"""
