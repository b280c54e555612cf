"""What a tuner learns from its trials: models, proposals, stopping, the race. Trains nothing.

Imports: base, config; compliance.base, compliance.tracks, numpy, optuna (late).
"""
