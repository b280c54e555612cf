"""Initial weights in NumPy: those of the Keras initializers with the same seeds."""

from __future__ import annotations

import numpy as np
import pytest

from reference_model.base.config import EngineConfig
from reference_model.model.initial_weights import initial_weights, weight_shapes

CONFIG = EngineConfig(
    num_users=500, num_items=401, num_positives=10, mf_dim=3, mlp_layers=(8, 6, 4)
)
SEEDS = (0, 1, 28921992, 2**31 - 1, 2**32 - 2)


def test_shapes_are_those_of_the_docstring():
    assert weight_shapes(CONFIG) == {
        "user_embedding": (500, 7), "item_embedding": (401, 7), "mlp_1_kernel": (8, 6),
        "mlp_1_bias": (6,), "mlp_2_kernel": (6, 4), "mlp_2_bias": (4,),
        "output_kernel": (7, 1), "output_bias": (1,),
    }  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_weights_equal_those_of_keras_bit_for_bit(seed):
    neumf = pytest.importorskip("reference_model.model.neumf")
    ours = initial_weights(CONFIG, seed)
    for (name, found), variable in zip(ours.items(), neumf.build_neumf(CONFIG, seed).weights):
        np.testing.assert_array_equal(found, variable.numpy(), name, strict=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_normal_weights_equal_those_of_keras_within_rounding(seed):
    neumf = pytest.importorskip("reference_model.model.neumf")
    config = EngineConfig(500, 401, 10, 3, (8, 6, 4), embedding_init="normal_0.01")
    ours = initial_weights(config, seed)
    for (name, found), variable in zip(ours.items(), neumf.build_neumf(config, seed).weights):
        np.testing.assert_allclose(found, variable.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_large_table_is_drawn_in_pieces_without_repetition():
    table = initial_weights(EngineConfig(30_000, 1, 10, 8, (16, 8)), 3)["user_embedding"]
    assert len(np.unique(table)) > 0.95 * table.size
