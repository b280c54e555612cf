"""The trained model: datasets, sampling, NeuMF, its training steps and its metrics.

Knows nothing of clocks, trials, log syntax or flags; see `harness` for those. The public
interface of an engine is `reference_model.engine`; `reference_model.events` is the protocol by
which the model reports facts about a run.

Imports: keras, numpy, pandas, tensorflow.
"""
