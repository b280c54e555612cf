"""Turns flags into one frozen, validated `RunConfig` and into the specifications of trials.

Imports: base; compliance.cli, compliance.tracks, reference_model.base, reference_model.data,
reference_model.engine, reference_model.events, reference_model.fused, reference_model.pjrt.
"""
