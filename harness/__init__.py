"""Runs the benchmark: starts, times and logs the runs that train the model.

`python -m harness` is the parent process, which never imports TensorFlow. Each trial, which is
one timed run, is a separate process, `python -m harness.trial`. The package handles flags and
settings, processes, clocks, devices, logs and the result tree.

Imports: compliance, reference_model, absl, jax (late), markupsafe, matplotlib (late),
mlperf_logging, numpy, optuna (late), pytest, tensorflow (late).
"""
