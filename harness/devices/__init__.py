"""CPUs, GPUs, TPUs and workers: chooses the devices and sets TensorFlow up for them.

Imports: base, config; tensorflow (late).
"""
