"""CPUs, GPUs, TPUs and workers: chooses the devices and sets TensorFlow up for them.

Imports: base, config; compliance.cli, numpy, reference_model.base, reference_model.fused,
reference_model.fused_math, reference_model.pjrt, tensorflow (late).
"""
