"""Keras Adam on plain tensors, for use inside compiled loops.

Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1, with epsilon
outside the bias correction ("epsilon hat", the end of their section 2), as in Keras and
TensorFlow.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence


from reference_model.base.config import EngineConfig
from reference_model.base.lazy_modules import tf

# The first two weights are the embedding tables; lazy Adam applies only to these.
_NUM_TABLES = 2


class Moments(NamedTuple):
    """Adam's moments of all weights, in weight order.

    Attributes:
      first: m, the decayed mean of the gradients.
      second: v, the decayed mean of the squared gradients.
    """

    first: tuple
    second: tuple


def step_size(config: EngineConfig, step: tf.Tensor) -> tf.Tensor:
    """Computes the bias-corrected step size, lr sqrt(1 - beta2^t) / (1 - beta1^t).

    Args:
      config: provides the learning rate and the betas.
      step: integer tensor of any shape, the step number t, from 1.

    Returns:
      float32, with the shape of `step`.
    """
    t = tf.cast(step, tf.float32)
    correction = tf.sqrt(1 - tf.pow(config.beta2, t)) / (1 - tf.pow(config.beta1, t))
    return config.learning_rate * correction


def adam_update(config: EngineConfig, rate, weight, first, second, gradient):
    """Applies one Adam step to one weight.

    Args:
      config: provides the betas and epsilon.
      rate: the step size from `step_size`.
      weight: the weight.
      first: first moment, with the shape of the weight.
      second: second moment, the same shape.
      gradient: gradient, the same shape.

    Returns:
      (weight, first, second) after the step.
    """
    # Same form as in Keras: m += (g - m)(1 - beta1) rounds differently from
    # beta1 m + (1 - beta1) g.
    first = first + (gradient - first) * (1 - config.beta1)
    second = second + (tf.square(gradient) - second) * (1 - config.beta2)
    return weight - rate * first / (tf.sqrt(second) + config.epsilon), first, second


def lazy_adam_update(config: EngineConfig, rate, weight, first, second, gradient):
    """Like `adam_update`, but skips rows whose entire gradient is zero."""
    was_read = tf.reduce_any(tf.not_equal(gradient, 0), axis=-1, keepdims=True)
    updated = adam_update(config, rate, weight, first, second, gradient)
    return tuple(tf.where(was_read, a, b) for a, b in zip(updated, (weight, first, second)))


def apply_step(
    config: EngineConfig,
    step: tf.Tensor,
    which: Sequence[int],
    weights: Sequence,
    moments: Moments,
    gradients: Sequence,
) -> list[list]:
    """Applies one dense step to a subset of the weights.

    Args:
      config: provides the optimizer name and its hyperparameters.
      step: int scalar, the step number, from 1.
      which: indices in `weights` of the weights to update; the others are unchanged.
      weights: all weights; the two embedding tables come first.
      moments: their moments.
      gradients: their gradients; only those at `which` are read.

    Returns:
      [weights, first moments, second moments], each a list in weight order.
    """
    rate = step_size(config, step)
    updated = [list(weights), list(moments.first), list(moments.second)]
    for k in which:
        is_lazy = config.optimizer == "lazy_adam" and k < _NUM_TABLES
        rule = lazy_adam_update if is_lazy else adam_update
        parts = rule(config, rate, updated[0][k], updated[1][k], updated[2][k], gradients[k])
        for values, part in zip(updated, parts):
            values[k] = part
    return updated
