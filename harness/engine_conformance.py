"""Holds an engine against the reference: does it compute NeuMF?

    python -m harness.engine_conformance reference_model.fused:FusedEngine

On small random problems, with the reference's own weights and batches injected:
logits, loss and every gradient within a norm-wise tolerance, then the hit rate
of a whole epoch trained from the same weights on the same batches. For a vendor who writes
an `--engine module:Class`; the tests of this project use the same functions.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.base.metrics import hits_tolerance
from reference_model.data.split import Split, leave_one_out
from reference_model.engine import Batch, Engine
from reference_model.events import NullSink

# float32: norm-wise, ||a - b|| / ||b||.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finding:
    """One comparison: what, how far apart, how far is allowed."""

    what: str
    difference: float
    allowed: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.allowed


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """||found - expected|| / ||expected||, in float64; inf where shapes differ."""
    if np.shape(found) != np.shape(expected):
        return float("inf")
    gap = np.linalg.norm(np.asarray(found, np.float64) - expected)
    norm = np.linalg.norm(np.asarray(expected, np.float64))
    return float(gap / norm) if norm else float(gap)


def random_problem(seed: int) -> tuple[EngineConfig, Split]:
    """A small random configuration and a split that fits it."""
    rng = np.random.default_rng(seed)
    users, items = int(rng.integers(20, 60)), int(rng.integers(30, 80))
    rated = rng.random((users, items)) < 0.3
    rated[:, :3] = True
    pairs = np.argwhere(rated)
    split = leave_one_out(pairs[:, 0], pairs[:, 1], rng.integers(0, 99, len(pairs)), 2)
    widths = 2 * rng.integers(2, 17, size=int(rng.integers(2, 5)))
    config = EngineConfig(
        num_users=split.num_users,
        num_items=split.num_items,
        num_positives=split.num_positives,
        mf_dim=int(rng.integers(1, 17)),
        mlp_layers=tuple(int(w) for w in widths),
        eval_negatives=25,
        eval_batch_size=200,
        batch_size=int(rng.choice([64, 96, 250])),
        learning_rate=0.01,
    )
    return config, split


def random_batch(config: EngineConfig, seed: int) -> Batch:
    """A batch of the configured size with about a tenth of it padding."""
    rng = np.random.default_rng(seed)
    size = config.batch_size
    real = int(size * rng.uniform(0.8, 1.0))
    return Batch(
        user=rng.integers(0, config.num_users, size).astype(np.int32),
        item=rng.integers(0, config.num_items, size).astype(np.int32),
        label=(rng.random(size) < 0.2).astype(np.float32),
        weight=(np.arange(size) < real).astype(np.float32),
    )


def compare(
    make: Callable[..., Engine], config: EngineConfig, split: Split, seed: int
) -> list[Finding]:
    """All comparisons of one problem; TensorFlow is imported here."""
    from reference_model.keras_engine.engine import ReferenceEngine

    engines = []
    for kind in (make, ReferenceEngine):
        engine = kind(config, NullSink(), "cpu")
        engine.prepare()
        engine.reset(seed)
        engines.append(engine)
    theirs, ours = engines
    theirs.set_weights(ours.get_weights())
    findings = [
        Finding(f"weight {name} round trip", distance(theirs.get_weights()[name], value), 0.0)
        for name, value in ours.get_weights().items()
    ]
    batch = random_batch(config, seed)
    findings.append(
        Finding(
            "logits",
            distance(theirs.score(batch.user, batch.item), ours.score(batch.user, batch.item)),
            TOLERANCE,
        )
    )
    loss, gradients = theirs.loss_and_gradients(batch)
    true_loss, true_gradients = ours.loss_and_gradients(batch)
    findings.append(Finding("loss", distance(loss, true_loss), TOLERANCE))
    for name, value in true_gradients.items():
        found = gradients.get(name, np.zeros(0))
        findings.append(Finding(f"gradient of {name}", distance(found, value), TOLERANCE))
    return findings + _compare_epoch(theirs, ours, split)


def _compare_epoch(theirs: Engine, ours: Engine, split: Split) -> list[Finding]:
    """An epoch of the reference's batches, trained by both: the hits may differ by
    max(2 users, 0.1%); then an epoch of their own, which must be as large."""
    for engine in (theirs, ours):
        engine.load(split)
    batches = ours.epoch_batches(1)
    results = []
    for engine in (theirs, ours):
        results.append((engine.train_batches(batches), engine.evaluate()))
    (trained, found), (true_trained, expected) = results
    own = theirs.train_epoch(1)
    for engine in (theirs, ours):
        engine.close()
    return [
        Finding("examples", abs(own.examples - batches.examples), 0),
        Finding("loss of an epoch", distance(trained.loss, true_trained.loss), 1e-3),
        Finding("scored pairs", abs(found.scored - expected.scored), 0),
        Finding("users", abs(found.users - expected.users), 0),
        Finding("hits after an epoch", abs(found.hits - expected.hits), hits_tolerance(found.users)),
    ]


def main(argv: list[str] | None = None) -> int:
    from harness.config.engine_loader import EngineError, load_engine_class

    parser = argparse.ArgumentParser(prog="python -m harness.engine_conformance")
    parser.add_argument("engine", help="module:Class")
    parser.add_argument("--problems", type=int, default=5)
    args = parser.parse_args(argv)
    try:
        make = load_engine_class(args.engine)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    failed = 0
    for seed in range(args.problems):
        config, split = random_problem(seed)
        if seed % 2:
            factors = (1e-3,) * len(config.mlp_layers)
            config = replace(config, l2_mf=1e-3, l2_mlp=factors)
        wrong = [f for f in compare(make, config, split, seed) if not f.ok]
        failed += bool(wrong)
        for finding in wrong:
            print(f"problem {seed}: {finding.what} differs by {finding.difference:.3g} "
                  f"(allowed {finding.allowed:.3g})")
    print(f"{args.problems - failed} of {args.problems} problems agree with the reference")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
