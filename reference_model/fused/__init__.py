"""The fused engine: NeuMF arranged for speed, one XLA program for many steps.

Imports: base, data, device_sampling, engine, engine_support, events, model, sampling; numpy,
tensorflow.
"""

from reference_model.fused.engine import FusedEngine

__all__ = ["FusedEngine"]
