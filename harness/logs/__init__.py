"""The log of a run: the writers of both dialects, its life cycle, its provenance.

Imports: base, config; compliance.logs, compliance.logs.dialects, reference_model.base,
reference_model.events, mlperf_logging, numpy.
"""
