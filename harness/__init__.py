"""Runs the benchmark: decides when, how often and how timed the model is trained.

`python -m harness` is the parent process, which never imports TensorFlow. Each trial, which is
one timed run, is a process of its own, `python -m harness.trial`. The parts are flags and
settings, processes, clocks, devices, logs and the result tree.

Imports: compliance, reference_model, absl, mlperf_logging, numpy, tensorflow (late).
"""
