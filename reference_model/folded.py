"""The reference engine with the MLP's first layer folded into its tables.

W [u; v] = Wu u + Wv v, so every user and every item is projected once per step
(once per evaluation batch) and a pair's first layer is one addition of two
gathered rows: that takes the largest layer out of the batch. A batch is cut into
tiles that stay in cache. The function is NeuMF's own, held against the plain
model by `tests/test_engine_conformance.py`; it pays off where a batch has more
rows than the tables. An engine of the `--engine module:Class` kind:
`--engine reference_model.folded:FoldedEngine`.
"""

from __future__ import annotations

import tensorflow as tf

from reference_model.training import ReferenceEngine, count_ranks

# Rows per tile by width of the first hidden layer: the activations of a tile
# should fit a core's cache.
_TILE_ROWS = {True: 2_048, False: 8_192}
_EVAL_PAIRS = 8_192


class FoldedEngine(ReferenceEngine):
    """NeuMF with a folded first layer; needs at least one dense layer."""

    name = "folded"

    def __init__(self, config, sink, device="cpu", jit_compile=True):
        super().__init__(config, sink, device, jit_compile)
        if len(config.mlp_layers) < 2:
            raise ValueError("engine folded needs at least two mlp_layers")
        rows = _TILE_ROWS[config.mlp_layers[1] >= 128]
        size = config.batch_size
        # The largest divisor of the batch that is no larger than a tile.
        self._tile = next(t for t in range(min(rows, size), 0, -1) if size % t == 0)
        if self._tile * 8 < rows:
            self._tile = size

    def _project(self, weights):
        """(user table [U, mf + h], item table [M, mf + h]), h the first layer's width."""
        mf = self.config.mf_dim
        users, items, kernel, bias = weights[:4]
        half = self.config.mlp_layers[0] // 2
        return (
            tf.concat([users[:, :mf], users[:, mf:] @ kernel[:half] + bias], axis=1),
            tf.concat([items[:, :mf], items[:, mf:] @ kernel[half:]], axis=1),
        )

    def _head(self, user_rows, item_rows, dense):
        """Logits [n] from gathered rows [n, mf + h] and the layers above."""
        mf = self.config.mf_dim
        hidden = tf.nn.relu(user_rows[:, mf:] + item_rows[:, mf:])
        for k in range(0, len(dense) - 2, 2):
            hidden = tf.nn.relu(hidden @ dense[k] + dense[k + 1])
        both = tf.concat([user_rows[:, :mf] * item_rows[:, :mf], hidden], axis=1)
        return (both @ dense[-2] + dense[-1])[:, 0]

    def _weights(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(v) for v in self._model.trainable_variables]

    def _logits(self, user, item):
        weights = self._weights()
        user_table, item_table = self._project(weights)
        return self._head(
            tf.gather(user_table, user), tf.gather(item_table, item), weights[4:]
        )

    def _gradients(self, user, item, label, weight):
        weights = self._weights()
        dense, size = weights[4:], self.config.batch_size
        # The trace runs with other batch sizes too: tiles only where they fit.
        tile = self._tile if user.shape[0] == size else user.shape[0]
        with tf.GradientTape() as fold:
            fold.watch(weights[:4])
            tables = self._project(weights)
        count = user.shape[0]

        def one_tile(k, loss, user_sum, item_sum, *dense_sums):
            part = [
                tf.ensure_shape(tf.slice(x, [k * tile], [tile]), [tile])
                for x in (user, item, label, weight)
            ]
            rows = [tf.gather(tables[0], part[0]), tf.gather(tables[1], part[1])]
            with tf.GradientTape() as tape:
                tape.watch([*rows, *dense])
                losses = tf.nn.sigmoid_cross_entropy_with_logits(
                    labels=part[2], logits=self._head(*rows, dense)
                )
                tile_loss = tf.reduce_sum(losses * part[3]) / count
            grads = tape.gradient(tile_loss, [*rows, *dense])
            user_sum = tf.tensor_scatter_nd_add(user_sum, part[0][:, None], grads[0])
            item_sum = tf.tensor_scatter_nd_add(item_sum, part[1][:, None], grads[1])
            sums = [a + g for a, g in zip(dense_sums, grads[2:])]
            return (k + 1, loss + tile_loss, user_sum, item_sum, *sums)

        zeros = [tf.zeros_like(x) for x in (*tables, *dense)]
        out = tf.while_loop(
            lambda k, *_: k < count // tile, one_tile, (0, tf.constant(0.0), *zeros)
        )
        gradients = fold.gradient(list(tables), weights[:4], output_gradients=list(out[2:4]))
        return self._with_penalty(out[1], [*gradients, *out[4:]])

    def _with_penalty(self, data_loss, gradients):
        """Adds the L2 terms, which know nothing of the batch."""
        config = self.config
        if not (config.l2_mf or any(config.l2_mlp)):
            return data_loss, 0.0, gradients
        variables = [v.value for v in self._model.trainable_variables]
        with tf.GradientTape() as tape:
            penalty = tf.add_n(self._model.losses)
        added = tape.gradient(
            penalty, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return data_loss, penalty, [a + b for a, b in zip(gradients, added)]

    def _ranks(self, user, items, masked):
        weights = self._weights()
        user_table, item_table = self._project(weights)
        per_user = items.shape[1]
        together = max(1, min(_EVAL_PAIRS // per_user, items.shape[0]))
        while items.shape[0] % together:
            together -= 1

        def some_users(k, scores):
            ids = tf.ensure_shape(tf.slice(user, [k * together], [together]), [together])
            candidates = tf.slice(items, [k * together, 0], [together, per_user])
            flat = tf.ensure_shape(tf.reshape(candidates, [-1]), [together * per_user])
            rows = tf.repeat(tf.gather(user_table, ids), per_user, axis=0)
            logits = self._head(rows, tf.gather(item_table, flat), weights[4:])
            block = tf.reshape(logits, [1, together, per_user])
            return k + 1, tf.tensor_scatter_nd_update(scores, [[k]], block)

        blocks = items.shape[0] // together
        scores = tf.zeros([blocks, together, per_user])
        _, scores = tf.while_loop(lambda k, _: k < blocks, some_users, (0, scores))
        return count_ranks(tf.reshape(scores, [items.shape[0], per_user]), masked)
