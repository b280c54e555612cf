"""Adam on plain tensors, exactly as Keras defines it, for compiled loops.

Kingma and Ba 2015, algorithm 1, with epsilon outside the bias correction
("epsilon hat", the end of their section 2), as Keras and TensorFlow place it.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from reference_model.base.config import EngineConfig


class Moments(NamedTuple):
    """First and second moment of every weight, in weight order."""

    first: tuple
    second: tuple


def step_size(config: EngineConfig, step: tf.Tensor) -> tf.Tensor:
    """lr sqrt(1 - beta2^t) / (1 - beta1^t), float32; `step` t counts from 1."""
    t = tf.cast(step, tf.float32)
    correction = tf.sqrt(1 - tf.pow(config.beta2, t)) / (1 - tf.pow(config.beta1, t))
    return config.learning_rate * correction


def update(config: EngineConfig, rate, weight, first, second, gradient):
    """(weight, first, second) after one step of size `rate` from `step_size`."""
    first = first + (gradient - first) * (1 - config.beta1)
    second = second + (tf.square(gradient) - second) * (1 - config.beta2)
    return weight - rate * first / (tf.sqrt(second) + config.epsilon), first, second


def lazy_update(config: EngineConfig, rate, weight, first, second, gradient):
    """As `update`, but rows whose whole gradient is zero stay as they are."""
    read = tf.reduce_any(tf.not_equal(gradient, 0), axis=-1, keepdims=True)
    moved = update(config, rate, weight, first, second, gradient)
    return tuple(tf.where(read, a, b) for a, b in zip(moved, (weight, first, second)))


def apply(config: EngineConfig, step, which, weights, moments: Moments, gradients):
    """(weights, first, second) after a dense step of the weights numbered in `which`;
    the others stay as they are. The two tables come first."""
    rate = step_size(config, step)
    moved = [list(weights), list(moments.first), list(moments.second)]
    for k in which:
        rule = lazy_update if config.optimizer == "lazy_adam" and k < 2 else update
        parts = rule(config, rate, moved[0][k], moved[1][k], moved[2][k], gradients[k])
        for kind, part in zip(moved, parts):
            kind[k] = part
    return moved
