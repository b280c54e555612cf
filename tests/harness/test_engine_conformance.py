"""The fast engines are NeuMF, and the conformance check can fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("tensorflow")

from harness import engine_conformance as conformance  # noqa: E402
from reference_model.fused import FusedEngine  # noqa: E402
from reference_model.keras_engine.engine import ReferenceEngine  # noqa: E402


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))]
)
def test_the_fused_engine_agrees_with_the_reference(seed):
    config, split = conformance.random_problem(seed)
    if seed % 2:
        config = replace(config, l2_mf=1e-3, l2_mlp=(1e-3,) * len(config.mlp_layers))
    wrong = [f for f in conformance.compare(FusedEngine, config, split, seed) if not f.ok]
    assert not wrong


class WithoutMask(ReferenceEngine):
    """Wrong on purpose: forgets what masks the padding."""

    def _gradients(self, user, item, label, weight):
        return super()._gradients(user, item, label, weight * 0 + 1)


def test_a_wrong_engine_is_found_out():
    config, split = conformance.random_problem(0)
    wrong = [f.what for f in conformance.compare(WithoutMask, config, split, 0) if not f.ok]
    assert "loss" in wrong and "gradient of output_kernel" in wrong


def test_command_line(capsys):
    name = "reference_model.fused:FusedEngine"
    assert conformance.main([name, "--problems", "1"]) == 0
    assert "1 of 1 problems agree" in capsys.readouterr().out
    assert conformance.main(["nowhere:Nothing"]) == 1
