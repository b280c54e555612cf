"""The statistics of an epoch that a trial logs."""

from __future__ import annotations

from reference_model.engine import EvalResult, TrainResult


def check_evaluation(evaluated: EvalResult, num_users: int) -> EvalResult:
    """Checks that an engine's figures are consistent before they are logged.

    Args:
      evaluated: The result that the engine returned.
      num_users: Users of the dataset.

    Returns:
      The same object.

    Raises:
      ValueError: Not all users were evaluated, or HR is not hits / users.
    """
    if evaluated.users != num_users or not 0 <= evaluated.hits <= evaluated.users:
        raise ValueError(
            f"the engine evaluated {evaluated.users} users with {evaluated.hits} hits; "
            f"the dataset has {num_users} users"
        )
    # The negated comparison also rejects NaN.
    if not abs(evaluated.hr - evaluated.hits / evaluated.users) <= 1e-12:
        raise ValueError(
            f"HR {evaluated.hr} is not {evaluated.hits} hits / {evaluated.users} users"
        )
    return evaluated


def epoch_stats(
    trained: TrainResult, evaluated: EvalResult, train_seconds: float, eval_seconds: float
) -> dict[str, float]:
    """Computes the value of the log record `tracked_stats`.

    Args:
      trained: Result of the epoch's training.
      evaluated: Result of the epoch's evaluation.
      train_seconds: Seconds of training, sampling included.
      eval_seconds: Seconds of evaluation.

    Returns:
      `throughput` in examples/s, `eval_throughput` in scored pairs/s, `loss`,
      `train_seconds` and `eval_seconds`; if the engine counts them, also `eval_scores`, the
      number of computed scores.
    """
    stats = {
        "throughput": trained.examples / max(train_seconds, 1e-9),
        "eval_throughput": evaluated.scored / max(eval_seconds, 1e-9),
        "loss": trained.loss,
        "train_seconds": round(train_seconds, 6),
        "eval_seconds": round(eval_seconds, 6),
    }
    if evaluated.computed is not None:
        stats["eval_scores"] = evaluated.computed
    return stats
