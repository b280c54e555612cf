"""What is trained: datasets, sampling, the NeuMF model, its steps and its metrics.

Knows nothing of clocks, trials, log syntax or flags; see `harness` for those.
"""
