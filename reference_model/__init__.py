"""The trained model: datasets, sampling, NeuMF, its training steps and its metrics.

Clocks, sets of runs, log syntax and flags belong to `harness`. `reference_model.engine` defines
the public interface of an engine. `reference_model.events` defines the protocol through which the
model reports facts about a run.

Imports: jax (late), keras, numpy, pandas, tensorflow.
"""
