"""Verdicts and scores as tables and JSON."""
