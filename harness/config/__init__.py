"""From flags to one frozen, validated `RunConfig`, and to what a trial is told.

Imports: base; compliance.tracks, reference_model.base, reference_model.data,
reference_model.engine, reference_model.events.
"""
