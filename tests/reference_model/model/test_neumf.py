"""The plain Keras model: sizes, initializers, L2, and training with `fit`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from reference_model.base.config import EngineConfig
from reference_model.model import neumf
from reference_model.model.initial_weights import initial_weights, weight_names
from reference_model.sampling.epoch_batches import build_epoch
from reference_model.sampling.negatives import make_sampler
from tests.support.splits import clustered_split

SMALL = EngineConfig(
    num_users=5, num_items=7, num_positives=10, mf_dim=3, mlp_layers=(8, 6, 4)
)


def test_the_forward_pass_equals_a_hand_computed_one():
    """Computes GMF and MLP in numpy from the weights of the model."""
    model = neumf.build_neumf(SMALL, seed=1)
    w = {n: v.numpy() for n, v in zip(weight_names(SMALL.mlp_layers), model.weights)}
    user, item = np.array([0, 4]), np.array([6, 2])
    u, i = w["user_embedding"][user], w["item_embedding"][item]
    hidden = np.concatenate([u[:, 3:], i[:, 3:]], axis=1)
    for k in (1, 2):
        hidden = np.maximum(hidden @ w[f"mlp_{k}_kernel"] + w[f"mlp_{k}_bias"], 0)
    both = np.concatenate([u[:, :3] * i[:, :3], hidden], axis=1)
    expected = both @ w["output_kernel"] + w["output_bias"]
    np.testing.assert_allclose(model([user, item]).numpy(), expected, rtol=1e-5)


def test_initial_weights_have_the_models_names_and_shapes():
    weights = initial_weights(SMALL, seed=3)
    assert tuple(weights) == weight_names(SMALL.mlp_layers)
    model = neumf.build_neumf(SMALL)
    assert [v.shape for v in weights.values()] == [tuple(v.shape) for v in model.weights]


def test_the_parameter_count_is_that_of_the_v05_model():
    """31,832,577 parameters, as the v0.5 reference log of ml-20m prints."""
    users, items, mf, layers = 138_493, 26_744, 64, (256, 256, 128, 64)
    tables = (users + items) * (mf + layers[0] // 2)
    dense = sum((a + 1) * b for a, b in zip(layers, layers[1:])) + mf + layers[-1] + 1
    assert tables + dense == 31_832_577
    config = replace(SMALL, num_users=1, num_items=1, mf_dim=mf, mlp_layers=layers)
    assert neumf.build_neumf(config).count_params() == dense + 2 * (mf + layers[0] // 2)


def test_initializers_are_those_of_the_model_garden():
    """Glorot uniform: limit sqrt(6 / (in + out)); lecun uniform: sqrt(3 / in)."""
    config = replace(SMALL, num_users=500, num_items=400)
    weights = initial_weights(config, seed=0)
    limits = {
        "user_embedding": np.sqrt(6 / (500 + 7)),
        "item_embedding": np.sqrt(6 / (400 + 7)),
        "mlp_1_kernel": np.sqrt(6 / (8 + 6)),
        "output_kernel": np.sqrt(3 / 7),
    }
    for name, limit in limits.items():
        largest = np.abs(weights[name]).max()
        assert 0.6 * limit < largest <= limit, name
    assert not weights["mlp_1_bias"].any()
    normal = initial_weights(replace(config, embedding_init="normal_0.01"), 0)
    assert normal["user_embedding"].std() == pytest.approx(0.01, rel=0.1)


def test_the_seed_determines_the_weights():
    first, again, other = (initial_weights(SMALL, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first["user_embedding"], again["user_embedding"])
    assert (first["user_embedding"] != other["user_embedding"]).any()
    # No two weights of one run share a stream.
    assert first["user_embedding"][0, 0] != first["item_embedding"][0, 0]


def test_the_l2_penalty_is_factor_times_squares_of_each_part():
    config = replace(SMALL, l2_mf=0.5, l2_mlp=(0.25, 0.125, 0.0))
    model = neumf.build_neumf(config, seed=2)
    w = {n: v.numpy() for n, v in zip(weight_names(SMALL.mlp_layers), model.weights)}
    tables = [w["user_embedding"], w["item_embedding"]]
    expected = sum(0.5 * (t[:, :3] ** 2).sum() + 0.25 * (t[:, 3:] ** 2).sum() for t in tables)
    expected += 0.125 * (w["mlp_1_kernel"] ** 2).sum()
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert neumf.build_neumf(SMALL).losses == []


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"mlp_layers": (7, 4)}, "must be even"),
        ({"mlp_layers": ()}, "at least 1"),
        ({"mlp_layers": (8, 0)}, "at least 1"),
        ({"mf_dim": 0}, "at least 1"),
        ({"l2_mlp": (0.1,)}, "one factor for each"),
        ({"num_items": 0}, "both be at least 1"),
        ({"embedding_init": "zeros"}, "not one of"),
    ],
)
def test_impossible_sizes_are_refused_with_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        neumf.build_neumf(replace(SMALL, **change))


def test_the_masked_loss_equals_a_hand_computed_one():
    """Only examples with a weight count; the divisor is the size of the whole batch."""
    import tensorflow as tf

    logits, label = tf.constant([0.0, 2.0, 5.0]), tf.constant([1.0, 0.0, 1.0])
    loss = neumf.masked_bce(logits, label, tf.constant([1.0, 1.0, 0.0]))
    expected = (np.log(2) + np.log1p(np.exp(2.0))) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_the_model_learns_with_compile_and_fit():
    split = clustered_split()
    config = replace(
        SMALL,
        num_users=split.num_users,
        num_items=split.num_items,
        mf_dim=8,
        mlp_layers=(32, 16, 8),
    )
    model = neumf.build_neumf(config, seed=0)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    sampler, losses = make_sampler(split), []
    for epoch in range(1, 4):
        b = build_epoch(split, sampler, 4, 256, seed=1, epoch=epoch)
        keep = slice(0, b.examples)
        x = [b.user.ravel()[keep], b.item.ravel()[keep]]
        y = b.label.ravel()[keep].astype("float32")
        history = model.fit(x, y, batch_size=256, verbose=0)
        losses.append(history.history["loss"][0])
    always_one_fifth = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert losses[-1] < losses[0] < 0.7
    assert losses[-1] < 0.8 * always_one_fifth
