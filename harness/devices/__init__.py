"""CPUs, GPUs, TPUs and workers: what is picked and how TensorFlow is set up for it.

Imports: base, config; tensorflow (late).
"""
