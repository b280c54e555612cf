"""CPUs, GPUs, TPUs and workers: chooses the devices and sets TensorFlow up for them.

Imports: base, config; compliance.cli, reference_model.pjrt, tensorflow (late).
"""
