"""NeuMF's loss, gradients and scores, arranged for speed; `neumf.py` is the oracle.

Three ideas change the arithmetic and none changes the function:

* the first layer folds: W [u; v] = Wu u + Wv v, so where a batch has more rows
  than a table, that table is projected once per step and a row's part of the
  layer is a gather; its gradient is summed per table row first and multiplied
  once. Each side is folded or not by itself;
* the batch is cut into tiles whose activations stay in cache;
* the backward pass is written by hand, so that nothing is computed twice, no
  gradient of a table is materialised per example, and weight gradients are
  accumulated transposed, the layout in which their products run fastest.

A side that is folded keeps GMF's columns and the projection apart, so that a row's part
of the first layer is gathered and added up by itself, without copies of wider rows.

Everything here is a function of tensors with static shapes that compiles under
XLA for CPU, GPU and TPU. Weights come as the list of `neumf.weight_names`.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf

from reference_model.fused.plan import Plan, product


class Sums(NamedTuple):
    """What a batch's tiles add up to.

    Attributes:
      loss: scalar, the sum of the real examples' cross-entropies.
      user, item: per table row, one array for each of `_side`'s: [rows, mf] and
        [rows, h] where the side is folded, else [rows, mf + half] of the table itself.
      first: gradients of the first kernel's user and item halves, for the sides
        that are not folded, transposed [h, half]; () for the others.
      bias: gradient of the first bias [h] where neither side is folded, else ().
      dense: gradients of the layers above, kernels transposed.
    """

    loss: tf.Tensor
    user: tuple
    item: tuple
    first: tuple
    bias: tuple
    dense: tuple


def loss_and_gradients(plan: Plan, weights: Sequence, user, item, label, weight):
    """(sum of cross-entropies, gradients in weight order) of one padded batch.

    user, item: int32 [plan.padded]; label, weight: float [plan.padded]; weight 0
    marks padding. The gradients are those of the sum divided by `plan.batch`.
    """
    user_side = _side(plan, weights, plan.fold_user, 0)
    item_side = _side(plan, weights, plan.fold_item, 1)
    sums = _zeros(plan, weights, user_side, item_side)
    parts, turns = (user, item, label, weight), plan.tiles // plan.abreast

    def one_turn(k, sums, _):
        backs: tuple = ()
        for lane in range(plan.abreast):  # each lane goes through a stretch of the batch
            here = [_stretch(x, (lane * turns + k) * plan.rows, plan.rows) for x in parts]
            sums, made = _tile(plan, weights, user_side, item_side, here, sums)
            backs += made
        return k + 1, sums, backs if plan.apart else ()

    if plan.tiles == 1:
        sums, _ = _tile(plan, weights, user_side, item_side, parts, sums)
    elif turns == 1:
        _, sums, _ = one_turn(0, sums, ())
    else:
        start = (0, sums, _backs(plan, weights[0].dtype))
        _, sums, backs = tf.while_loop(lambda k, *_: k < turns, one_turn, start)
        # Read, so that XLA does not take them out of the loop; finite where training is.
        sums = sums._replace(loss=sums.loss + sum(0 * back[0, 0] for back in backs))
    return sums.loss, _finish(plan, weights, sums)


def _backs(plan: Plan, dtype) -> tuple:
    """Zeros in the shapes of what the backward passes of one turn make, if `plan.apart`.

    XLA puts what it makes where something else stood that is not read any more, and then
    waits for those who still read that: the one tile's products for the other's. What the
    loop over tiles hands on from turn to turn it keeps apart better, and the tiles of a
    turn run beside each other. Narrow layers lose more by the writing than they gain.
    """
    if not plan.apart:
        return ()
    widths = (*plan.layers[:1:-1], *plan.layers[-2:0:-1]) * plan.abreast
    return tuple(tf.zeros([plan.rows, width], dtype) for width in widths)


def _stretch(values, first, count: int):
    """values[first : first + count], of a shape that is known before it runs."""
    return tf.ensure_shape(tf.slice(values, [first], [count]), [count])


def half_kernel(plan: Plan, weights: Sequence, side: int):
    """The first kernel's rows of one side (0 users, 1 items), [half, h]."""
    return weights[2][: plan.half] if side == 0 else weights[2][plan.half :]


def _side(plan: Plan, weights: Sequence, folded: bool, side: int) -> tuple:
    """What rows are gathered from: (the table,), or (GMF's columns, projection)."""
    table = weights[side]
    if not folded:
        return (table,)
    hidden = product(plan, table[:, plan.mf :], half_kernel(plan, weights, side))
    return table[:, : plan.mf], hidden


def _gathered(plan: Plan, side: tuple, ids):
    """(GMF's [n, mf], the MLP's part [n, half or h]) of the rows `ids` [n] of a side."""
    rows = [tf.gather(array, ids) for array in side]
    return rows if len(rows) == 2 else (rows[0][:, : plan.mf], rows[0][:, plan.mf :])


def _added_up(sums: tuple, ids, gmf, mlp) -> tuple:
    """A side's `sums` with the gradients of the rows `ids` added, gathered as `_gathered` does."""
    parts = (gmf, mlp) if len(sums) == 2 else (tf.concat([gmf, mlp], axis=1),)
    return tuple(
        tf.tensor_scatter_nd_add(total, ids[:, None], part) for total, part in zip(sums, parts)
    )


def _zeros(plan: Plan, weights: Sequence, user_side, item_side) -> Sums:
    dtype = weights[0].dtype
    deep = len(plan.layers) > 1
    transposed = tuple(tf.zeros(w.shape[::-1], dtype) for w in weights[2:3] if deep)
    first: tuple = ()
    if deep:
        half = tf.zeros([plan.layers[1], plan.half], dtype)
        if not plan.fold_user and not plan.fold_item:
            first = transposed
        elif not plan.fold_user or not plan.fold_item:
            first = (half,)
    neither = deep and not (plan.fold_user or plan.fold_item)
    dense = [
        tf.zeros(w.shape[::-1] if _is_hidden_kernel(k, weights) else w.shape, dtype)
        for k, w in enumerate(weights[4:] if deep else weights[2:])
    ]
    return Sums(
        loss=tf.zeros([], dtype),
        user=tuple(tf.zeros_like(array) for array in user_side),
        item=tuple(tf.zeros_like(array) for array in item_side),
        first=first,
        bias=(tf.zeros([plan.layers[1]], dtype),) if neither else (),
        dense=tuple(dense),
    )


def _is_hidden_kernel(k: int, weights: Sequence) -> bool:
    """Whether entry k of the weights above the first layer is a hidden kernel."""
    return k % 2 == 0 and k < len(weights) - 6


def _first_layer(plan: Plan, weights: Sequence, user_part, item_part, one):
    """The MLP's first activation [n, h] from gathered parts; or its input [n, L0].

    `one` is 1 in a way that a compiler cannot know. XLA computes anew for the backward
    pass what it finds cheap, here from both sides' gathered rows, which must then be kept;
    what ends in a division it finds dear, so it keeps the activation instead and gathers
    inside its loop. x / 1 is x.
    """
    if len(plan.layers) == 1:
        return tf.concat([user_part, item_part], axis=1)
    if not plan.fold_user and not plan.fold_item:
        both = tf.concat([user_part, item_part], axis=1)
        return tf.nn.relu(product(plan, both, weights[2]) + weights[3])
    if not plan.fold_user:
        user_part = product(plan, user_part, half_kernel(plan, weights, 0))
    if not plan.fold_item:
        item_part = product(plan, item_part, half_kernel(plan, weights, 1))
    return tf.nn.relu(user_part + item_part + weights[3]) / one


def _forward(plan: Plan, weights: Sequence, gmf, activation):
    """(activations of all layers, logits [n]) from GMF's products [n, mf] and the first
    layer's activation [n, h]."""
    upper = weights[4:] if len(plan.layers) > 1 else weights[2:]
    hidden = [activation]
    for k in range(0, len(upper) - 2, 2):
        hidden.append(tf.nn.relu(product(plan, hidden[-1], upper[k]) + upper[k + 1]))
    out, bias = upper[-2][:, 0], upper[-1][0]
    logits = tf.linalg.matvec(gmf, out[: plan.mf]) + tf.linalg.matvec(
        hidden[-1], out[plan.mf :]
    )
    return hidden, logits + bias


def _tile(plan: Plan, weights, user_side, item_side, parts, sums: Sums) -> tuple[Sums, tuple]:
    """(`sums` with one tile's loss and gradients, the gradients that enter the layers above
    the first, from the top, and those that leave them)."""
    user, item, label, weight = parts
    mf = plan.mf
    upper = weights[4:] if len(plan.layers) > 1 else weights[2:]
    user_gmf, user_part = _gathered(plan, user_side, user)
    item_gmf, item_part = _gathered(plan, item_side, item)
    gmf = user_gmf * item_gmf
    activation = _first_layer(plan, weights, user_part, item_part, one=1 + 0 * label[0])
    hidden, logits = _forward(plan, weights, gmf, activation)
    # max(x, 0) - x y + log(1 + exp(-|x|)): no overflow for any logit.
    entropy = tf.nn.relu(logits) - logits * label + tf.math.log1p(tf.exp(-tf.abs(logits)))
    loss = sums.loss + tf.reduce_sum(entropy * weight)

    slope = ((tf.sigmoid(logits) - label) * weight / plan.batch)[:, None]
    out = upper[-2][:, 0]
    dense = [
        tf.concat([tf.reduce_sum(x * slope, axis=0) for x in (gmf, hidden[-1])], axis=0)[:, None],
        tf.reduce_sum(slope)[None],
    ]
    back, entering, leaving = slope * out[mf:], (), ()
    for k in range(len(upper) - 4, -1, -2):
        below = hidden[k // 2]
        back = tf.where(hidden[k // 2 + 1] > 0, back, 0)
        entering += (back,)
        dense = [product(plan, back, below, transpose_a=True), tf.reduce_sum(back, axis=0), *dense]
        back = product(plan, back, upper[k], transpose_b=True)
        leaving += (back,)
    back_gmf = slope * out[:mf]
    user_back, item_back, first, bias = _first_backward(
        plan, weights, user_part, item_part, hidden[0], back
    )
    sums = Sums(
        loss=loss,
        user=_added_up(sums.user, user, back_gmf * item_gmf, user_back),
        item=_added_up(sums.item, item, back_gmf * user_gmf, item_back),
        first=tuple(a + b for a, b in zip(sums.first, first)),
        bias=tuple(a + b for a, b in zip(sums.bias, bias)),
        dense=tuple(a + b for a, b in zip(sums.dense, dense)),
    )
    return sums, entering + leaving


def _first_backward(plan: Plan, weights, user_part, item_part, activation, back):
    """Gradients that reach each side's gathered parts, and the first layer's own."""
    half = plan.half
    if len(plan.layers) == 1:
        return back[:, :half], back[:, half:], (), ()
    back = tf.where(activation > 0, back, 0)
    if not plan.fold_user and not plan.fold_item:
        both = tf.concat([user_part, item_part], axis=1)
        first = (product(plan, back, both, transpose_a=True),)
        below = product(plan, back, weights[2], transpose_b=True)
        return below[:, :half], below[:, half:], first, (tf.reduce_sum(back, axis=0),)
    found, first = [], ()
    for side, folded, part in ((0, plan.fold_user, user_part), (1, plan.fold_item, item_part)):
        if folded:
            found.append(back)
        else:
            first = (product(plan, back, part, transpose_a=True),)
            kernel = half_kernel(plan, weights, side)
            found.append(product(plan, back, kernel, transpose_b=True))
    return found[0], found[1], first, ()


def _finish(plan: Plan, weights: Sequence, sums: Sums) -> list:
    """Gradients in weight order from the sums over the batch."""
    upper = list(sums.dense)
    for k in range(0, len(upper) - 2, 2):
        upper[k] = tf.transpose(upper[k])
    if len(plan.layers) == 1:
        return [*sums.user, *sums.item, *upper]
    if not plan.fold_user and not plan.fold_item:
        return [*sums.user, *sums.item, tf.transpose(sums.first[0]), sums.bias[0], *upper]
    tables, kernels, bias = [], [], None
    for side, folded, total in ((0, plan.fold_user, sums.user), (1, plan.fold_item, sums.item)):
        if not folded:
            tables += total
            kernels.append(tf.transpose(sums.first[0]))
            continue
        gmf, hidden = total
        kernel = half_kernel(plan, weights, side)
        embedding = weights[side][:, plan.mf :]
        below = product(plan, hidden, kernel, transpose_b=True)
        tables.append(tf.concat([gmf, below], axis=1))
        kernels.append(product(plan, embedding, hidden, transpose_a=True))
        bias = tf.reduce_sum(hidden, axis=0)
    return [*tables, tf.concat(kernels, axis=0), bias, *upper]


