"""Checks that an engine computes NeuMF, by comparison with the reference engine.

    python -m harness.engine_conformance reference_model.fused:FusedEngine

On small random problems, both engines get the same weights and the same batches. Logits, loss
and every gradient must agree within a relative error. After a whole epoch, the hits must agree
within `hits_tolerance`. Vendors can check their own `--engine module:Class` with it; the tests
of this project use the same functions.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.metrics import hits_tolerance
from reference_model.base.usage_parser import UsageParser
from reference_model.data.split import Split, leave_one_out
from reference_model.engine import Batch, Engine
from reference_model.events import NullSink

# Largest relative error ||a - b|| / ||b|| of logits, loss and gradients in float32.
TOLERANCE = 1e-4
# Largest relative error of an epoch's mean loss; rounding errors accumulate over the epoch.
EPOCH_LOSS_TOLERANCE = 1e-3
# Methods of `Engine` that the comparison needs, besides those that a run requires.
COMPARED_METHODS = (
    "get_weights", "loss_and_gradients", "score", "set_weights", "train_batches")


@dataclass(frozen=True)
class Finding:
    """The result of one comparison.

    Attributes:
      quantity: Name of the compared quantity.
      difference: Difference between the two engines.
      allowed: Largest allowed difference.
    """

    quantity: str
    difference: float
    allowed: float

    @property
    def is_ok(self) -> bool:
        """Whether the difference is allowed; a NaN is not."""
        return self.difference <= self.allowed


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Computes the relative error ||found - expected|| / ||expected|| in float64.

    Args:
      found: An array or a number.
      expected: The same quantity from the reference engine.

    Returns:
      The relative error; ||found|| if `expected` is zero; infinity if the shapes differ.
    """
    if np.shape(found) != np.shape(expected):
        return float("inf")
    difference_norm = np.linalg.norm(np.asarray(found, np.float64) - expected)
    norm = np.linalg.norm(np.asarray(expected, np.float64))
    return float(difference_norm / norm) if norm else float(difference_norm)


def random_problem(seed: int) -> tuple[EngineConfig, Split]:
    """Draws a small random configuration and a matching split."""
    rng = np.random.default_rng(seed)
    users, items = int(rng.integers(20, 60)), int(rng.integers(30, 80))
    rated = rng.random((users, items)) < 0.3
    # Every user needs some ratings to stay in the split.
    rated[:, :3] = True
    pairs = np.argwhere(rated)
    split = leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 99, len(pairs)), 2)
    # Even, since the first layer's input is a user vector and an item vector of equal width.
    widths = 2 * rng.integers(2, 17, size=int(rng.integers(2, 5)))
    config = EngineConfig(
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        mf_dim=int(rng.integers(1, 17)),
        mlp_layers=tuple(int(width) for width in widths),
        eval_negatives=25,
        eval_batch_size=200,
        batch_size=int(rng.choice([64, 96, 250])),
        learning_rate=0.01,
    )
    return config, split


def random_batch(config: EngineConfig, seed: int) -> Batch:
    """Draws a batch of the configured size; about a tenth of it is padding."""
    rng = np.random.default_rng(seed)
    size = config.batch_size
    num_real = int(size * rng.uniform(0.8, 1.0))
    return Batch(
        user=rng.integers(0, config.num_users, size).astype(np.int32),
        item=rng.integers(0, config.num_items, size).astype(np.int32),
        label=(rng.random(size) < 0.2).astype(np.float32),
        weight=(np.arange(size) < num_real).astype(np.float32),
    )


def compare_with_reference(
    engine_class: Callable[..., Engine], config: EngineConfig, split: Split, seed: int
) -> list[Finding]:
    """Runs all comparisons on one problem. Imports TensorFlow.

    Args:
      engine_class: Called with (`EngineConfig`, `EventSink`, device).
      config: The problem's sizes.
      split: The problem's dataset.
      seed: Seed of weights, batches and samples.

    Returns:
      One finding per comparison, including those that pass.
    """
    from reference_model.keras_engine.engine import ReferenceEngine

    engines = []
    for make_engine in (engine_class, ReferenceEngine):
        engine = make_engine(config, NullSink(), "cpu")
        engine.prepare()
        engine.reset(seed)
        engines.append(engine)
    tested, reference = engines
    # Both engines get the same weights, and return them unchanged.
    tested.set_weights(reference.get_weights())
    findings = [
        Finding(f"weight {name} round trip", distance(tested.get_weights()[name], value), 0.0)
        for name, value in reference.get_weights().items()
    ]
    batch = random_batch(config, seed)
    logits = tested.score(batch.user, batch.item)
    expected_logits = reference.score(batch.user, batch.item)
    findings.append(Finding("logits", distance(logits, expected_logits), TOLERANCE))
    loss, gradients = tested.loss_and_gradients(batch)
    expected_loss, expected_gradients = reference.loss_and_gradients(batch)
    findings.append(Finding("loss", distance(loss, expected_loss), TOLERANCE))
    for name, expected in expected_gradients.items():
        # A missing gradient gets another shape and thus an infinite error.
        gradient = gradients.get(name, np.zeros(0))
        findings.append(Finding(f"gradient of {name}", distance(gradient, expected), TOLERANCE))
    return findings + _compare_epoch(tested, reference, split)


def _compare_epoch(tested: Engine, reference: Engine, split: Split) -> list[Finding]:
    """Compares an epoch on the reference's batches; then the tested engine draws its own epoch.

    After the first epoch, hits may differ by max(2 users, 0.1%). The second epoch must only have
    the same number of examples.
    """
    for engine in (tested, reference):
        engine.load(split)
    batches = reference.epoch_batches(1)
    results = []
    for engine in (tested, reference):
        results.append((engine.train_batches(batches), engine.evaluate()))
    (trained, evaluated), (expected_trained, expected) = results
    own_epoch = tested.train_epoch(1)
    for engine in (tested, reference):
        engine.close()
    loss_error = distance(trained.loss, expected_trained.loss)
    hits_difference = abs(evaluated.hits - expected.hits)
    return [
        Finding("examples", abs(own_epoch.examples - batches.examples), 0),
        Finding("loss of an epoch", loss_error, EPOCH_LOSS_TOLERANCE),
        Finding("scored pairs", abs(evaluated.scored - expected.scored), 0),
        Finding("users", abs(evaluated.users - expected.users), 0),
        Finding("hits after an epoch", hits_difference, hits_tolerance(evaluated.users)),
    ]


def load_engine(name: str) -> Callable[..., Engine]:
    """Imports an engine class that has every method which the comparison calls.

    Args:
      name: `module:Class`, or the name of a built-in engine.

    Raises:
      EngineError: The class does not exist, or a method is missing.
    """
    from harness.config.engine_loader import EngineError, load_engine_class

    engine_class = load_engine_class(name)
    missing = [m for m in COMPARED_METHODS if not callable(getattr(engine_class, m, None))]
    if missing:
        raise EngineError(
            f"--engine={name}: {engine_class.__name__} lacks {', '.join(missing)}, which only the "
            "comparison with the reference engine needs (reference_model/engine.py)"
        )
    return engine_class


def numbered_problem(seed: int) -> tuple[EngineConfig, Split]:
    """Returns the problem with this number, from 0; every other one has L2 penalties."""
    config, split = random_problem(seed)
    if seed % 2:
        config = replace(config, l2_mf=1e-3, l2_mlp=(1e-3,) * len(config.mlp_layers))
    return config, split


def silence_tensorflow() -> None:
    """Turns off TensorFlow's start-up lines and its warnings about retracing.

    Each problem has sizes of its own, so each is traced; that is not a defect of an engine. Call
    it before TensorFlow is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").addFilter(
        lambda record: "retracing" not in str(record.msg))


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = UsageParser(
        prog="python -m harness.engine_conformance",
        description="Checks that a training engine computes NeuMF: on small random problems, it "
        "gets the same weights and the same batches as the plain Keras engine. Logits, loss and "
        f"every gradient must agree within a relative error of {TOLERANCE:g}, the loss of an epoch "
        f"within {EPOCH_LOSS_TOLERANCE:g}, and its hits within two users or 0.1%.",
        epilog="exit codes: 0 every problem agrees, 1 wrong usage or no such engine, 2 a problem "
        "differs. Examples: python -m harness.engine_conformance fused; "
        "python -m harness.engine_conformance my_package.engine:MyEngine --problems=20",
    )
    parser.add_argument("engine", metavar="ENGINE",
                        help="module:Class, imported from the current folder or PYTHONPATH, or the "
                        "name of a built-in engine; reference_model/engine.py documents its methods")
    parser.add_argument("--problems", type=int, default=5, metavar="N",
                        help="number of random problems (default: 5)")
    args = parser.parse_args(argv)
    if args.problems < 1:
        parser.error(f"--problems={args.problems}: use a whole number from 1 up")
    return args


def _describe_problem(config: EngineConfig) -> str:
    """Returns the sizes of a problem in words."""
    layers = "-".join(map(str, config.mlp_layers))
    penalties = ", L2" if config.l2_mf else ""
    return (f"{config.num_users} users, {config.num_items} items, mf {config.mf_dim}, "
            f"layers {layers}{penalties}")


def main(argv: list[str] | None = None) -> int:
    """Compares an engine on several problems; prints each result as soon as it is known.

    Args:
      argv: Arguments after the program's name; those of this process if None.

    Returns:
      0 if all problems agree, 1 if the engine cannot be loaded, 2 if a problem differs.
    """
    from harness.base.error_text import describe_exception, one_line
    from harness.config.engine_loader import EngineError

    args = _parse_arguments(argv)
    silence_tensorflow()
    try:
        engine_class = load_engine(args.engine)
    except EngineError as error:
        print(f"python -m harness.engine_conformance: {one_line(error)}", file=sys.stderr)
        return 1
    print(f"comparing {args.engine} with the plain Keras engine on {args.problems} random "
          "problems, a few seconds each", flush=True)
    num_failed = 0
    for seed in range(args.problems):
        config, split = numbered_problem(seed)
        name = f"problem {seed + 1} of {args.problems} ({_describe_problem(config)})"
        try:
            findings = compare_with_reference(engine_class, config, split, seed)
        except Exception as error:  # the user's engine may raise anything
            num_failed += 1
            print(f"{name}: the engine failed: {one_line(describe_exception(error))}", flush=True)
            continue
        failures = [finding for finding in findings if not finding.is_ok]
        num_failed += bool(failures)
        said = f"{len(failures)} of {len(findings)} differ" if failures else \
            f"all {len(findings)} comparisons agree"
        print(f"{name}: {said}", flush=True)
        for finding in failures:
            print(f"    {finding.quantity} differs by {finding.difference:.3g} "
                  f"(allowed {finding.allowed:.3g})", flush=True)
    num_passed = args.problems - num_failed
    print(f"problems that agree with the reference: {num_passed} of {args.problems}")
    return 2 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
