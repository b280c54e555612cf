"""The arithmetic of the fused engine: plans, the first layer, loss and gradients, scores.

Imports: base; tensorflow.
"""
