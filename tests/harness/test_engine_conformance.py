"""The fused engine passes the conformance check, and a wrong engine fails it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

from harness import engine_conformance as conformance  # noqa: E402
from reference_model.fused import FusedEngine  # noqa: E402
from reference_model.keras_engine.engine import ReferenceEngine  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))]
)
def test_the_fused_engine_agrees_with_the_reference(seed):
    config, split = conformance.numbered_problem(seed)
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


class FailingEngine(ReferenceEngine):
    """It raises in the middle of a problem."""

    def score(self, user, item):
        raise ValueError("no\nkernel")


class EngineWithoutGradients:
    """It can train a run, but not be compared."""

    prepare = reset = load = train_epoch = evaluate = close = get_weights = set_weights = print


def test_the_command_line_shows_each_problem_and_the_count(capsys):
    assert conformance.main(["reference_model.fused:FusedEngine", "--problems", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("comparing reference_model.fused:FusedEngine with the plain Keras")
    assert printed[1].startswith("problem 1 of 1 (") and printed[1].endswith("comparisons agree")
    assert printed[-1] == "problems that agree with the reference: 1 of 1"


@pytest.mark.parametrize("engine, said", [
    ("EngineWithoutMask", "    loss differs by "), ("FailingEngine", "the engine failed: ValueError: no")])
def test_a_wrong_engine_is_exit_code_2(capsys, engine, said):
    assert conformance.main([f"{__name__}:{engine}", "--problems=1"]) == 2
    printed = capsys.readouterr().out
    assert said in printed and printed.endswith("problems that agree with the reference: 0 of 1\n")


@pytest.mark.parametrize("arguments, said", [
    (["nowhere:Nothing"], "No module named 'nowhere'"), ([], "required: ENGINE"),
    (["fused", "--problems=0"], "a whole number from 1 up"),
    (["fused", "--problems=many"], "invalid int value"),
    ([f"{__name__}:EngineWithoutGradients"], "lacks loss_and_gradients, score, train_batches")])
def test_wrong_usage_is_one_line_and_exit_code_1(capsys, arguments, said):
    try:
        code = conformance.main(arguments)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert code == 1 and said in printed.err and len(printed.err.splitlines()) == 1
    assert not printed.out


@pytest.mark.slow
def test_tensorflow_says_nothing_about_retracing():
    """Each problem has its own sizes, so each is traced; the user can do nothing about it."""
    command = [sys.executable, "-m", "harness.engine_conformance", "fused"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "retracing" not in done.stderr
