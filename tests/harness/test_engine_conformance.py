"""The fused engine passes the conformance check, and a wrong engine fails it."""

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
    findings = conformance.compare_with_reference(FusedEngine, config, split, seed)
    assert [finding for finding in findings if not finding.is_ok] == []


class EngineWithoutMask(ReferenceEngine):
    """Intentionally wrong: it also trains on the padding of a batch."""

    def _gradients(self, user, item, label, weight):
        return super()._gradients(user, item, label, weight * 0 + 1)


def test_an_engine_that_ignores_the_mask_fails():
    config, split = conformance.random_problem(0)
    findings = conformance.compare_with_reference(EngineWithoutMask, config, split, 0)
    failures = [finding.quantity for finding in findings if not finding.is_ok]
    assert "loss" in failures and "gradient of output_kernel" in failures


def test_the_command_line_counts_problems_and_refuses_unknown_engines(capsys):
    name = "reference_model.fused:FusedEngine"
    assert conformance.main([name, "--problems", "1"]) == 0
    assert "problems that agree with the reference: 1 of 1" in capsys.readouterr().out
    assert conformance.main(["nowhere:Nothing"]) == 1
