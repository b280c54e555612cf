"""The figures of an epoch as a trial logs them."""

from __future__ import annotations

from reference_model.engine import EvalResult, TrainResult


def check_evaluation(found: EvalResult, num_users: int) -> EvalResult:
    """Holds an engine's figures against each other before they are logged."""
    if found.users != num_users or not 0 <= found.hits <= found.users:
        raise ValueError(
            f"the engine evaluated {found.users} users with {found.hits} hits; "
            f"the dataset has {num_users} users"
        )
    if not abs(found.hr - found.hits / found.users) <= 1e-12:
        raise ValueError(f"HR {found.hr} is not {found.hits} hits / {found.users} users")
    return found


def epoch_stats(
    trained: TrainResult, found: EvalResult, train_seconds: float, eval_seconds: float
) -> dict[str, float]:
    """What `tracked_stats` says of an epoch: examples/s, pairs/s, loss, seconds, and of how
    many pairs the engine computed the score, where it counts them."""
    stats = {
        "throughput": trained.examples / max(train_seconds, 1e-9),
        "eval_throughput": found.scored / max(eval_seconds, 1e-9),
        "loss": trained.loss,
        "train_seconds": round(train_seconds, 6),
        "eval_seconds": round(eval_seconds, 6),
    }
    if found.computed is not None:
        stats["eval_scores"] = found.computed
    return stats
