"""The log of a run: writers for both dialects, life cycle and provenance.

Imports: base, config; compliance.logs, compliance.logs.dialects, reference_model.base,
reference_model.events, mlperf_logging, numpy.
"""
