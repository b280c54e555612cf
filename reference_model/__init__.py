"""What is trained: datasets, sampling, the NeuMF model, its steps and its metrics.

Knows nothing of clocks, trials, log syntax or flags; see `harness` for those. The public
interface of an engine is `reference_model.engine`; `reference_model.events` is the protocol by
which the model reports what it does.

Imports: keras, numpy, pandas, tensorflow.
"""
