"""The fused engine: NeuMF optimized for speed, with many steps per XLA program.

Imports: base, data, device_sampling, engine, engine_support, events, fused_math, model, sampling;
numpy, tensorflow.
"""

from reference_model.fused.engine import FusedEngine

__all__ = ["FusedEngine"]
