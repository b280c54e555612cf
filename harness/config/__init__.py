"""From flags to one frozen, validated `RunConfig`, and to the specification of a trial.

Imports: base; compliance.tracks, reference_model.base, reference_model.data,
reference_model.engine, reference_model.events.
"""
