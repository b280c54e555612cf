"""Keras Adam, and a lazy variant for embedding tables."""

from __future__ import annotations

import keras
import tensorflow as tf

from reference_model.base.config import EngineConfig


class LazyAdam(keras.optimizers.Adam):
    """Adam that skips embedding rows without a gradient.

    As in LazyAdam of TensorFlow Contrib and TensorFlow Addons, the weights and moments of an
    embedding row change only in steps that read the row. Here a row counts as unread if its
    entire gradient is zero; this includes rows that only padding reads. All other weights use
    plain Adam.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Overrides the Keras method; updates one variable and its moments in place."""
        index = self._get_variable_index(variable)
        if not self._trainable_variables[index].path.endswith("embeddings"):
            return super().update_step(gradient, variable, learning_rate)
        m, v = self._momentums[index], self._velocities[index]
        gradient = tf.convert_to_tensor(gradient)
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = tf.cast(learning_rate, tf.float32)
        # Keras places epsilon outside the bias correction ("epsilon hat" of Kingma and Ba 2015),
        # so the correction can be folded into the step size.
        rate *= tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        was_read = tf.reduce_any(tf.not_equal(gradient, 0.0), axis=-1, keepdims=True)
        new_m = m + (gradient - m) * (1 - self.beta_1)
        new_v = v + (tf.square(gradient) - v) * (1 - self.beta_2)
        new_variable = variable - rate * new_m / (tf.sqrt(new_v) + self.epsilon)
        m.assign(tf.where(was_read, new_m, m))
        v.assign(tf.where(was_read, new_v, v))
        variable.assign(tf.where(was_read, new_variable, variable))


def make_optimizer(config: EngineConfig) -> keras.optimizers.Optimizer:
    """Creates the optimizer named in the configuration.

    Raises:
      ValueError: the optimizer is unknown.
    """
    kinds = {"adam": keras.optimizers.Adam, "lazy_adam": LazyAdam}
    if config.optimizer not in kinds:
        raise ValueError(
            f"optimizer {config.optimizer!r} is not one of {', '.join(sorted(kinds))}"
        )
    return kinds[config.optimizer](
        learning_rate=config.learning_rate,
        beta_1=config.beta1,
        beta_2=config.beta2,
        epsilon=config.epsilon,
    )
