"""When, how often and how timed: flags, trials, processes, clocks and the log.

`python -m harness` is the parent process: it never imports TensorFlow. Each
trial is a process of its own, `python -m harness.trial`.

Imports: compliance, reference_model, absl, mlperf_logging, numpy, tensorflow (late).
"""
