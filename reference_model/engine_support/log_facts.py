"""Logs the facts that all engines of this project report.

The keys are those of `compliance/logs/keys.py`.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.data.split import Split
from reference_model.events import EventSink
from reference_model.sampling.evaluation_lists import (
    EvaluationLists,
    StreamedEvaluationLists,
    draw_evaluation_lists,
)
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream


def log_model_config(config: EngineConfig, sink: EventSink, operands: str | None = None) -> None:
    """Logs the configuration of the model and the optimizer; called before the clock starts.

    Args:
      config: the configuration.
      sink: receives the facts.
      operands: how matrix products take bfloat16 operands; None for other precisions.
    """
    log = sink.point
    per_user = config.eval_negatives + 1
    log("precision", config.precision, **({"operands": operands} if operands else {}))
    log("global_batch_size", config.batch_size)
    log("eval_batch_size", config.users_per_eval_batch * per_user)
    log("opt_name", config.optimizer)
    log("opt_base_learning_rate", config.learning_rate)
    log("opt_adam_beta_1", config.beta1)
    log("opt_adam_beta_2", config.beta2)
    log("opt_adam_epsilon", config.epsilon)
    log("model_loss_fn", "binary_cross_entropy")
    log("model_mf_dim", config.mf_dim)
    log("model_mlp_layer_sizes", list(config.mlp_layers))
    log("model_l2_mf", config.l2_mf)
    log("model_l2_mlp", list(config.l2_mlp or (0.0,) * len(config.mlp_layers)))


def log_training_config(
    config: EngineConfig,
    sampler: str,
    sink: EventSink,
    order: str = "uniform_permutation",
    order_method: str | None = None,
) -> None:
    """Logs the size of an epoch and the sampling of its negatives and its order.

    Args:
      config: the sizes.
      sampler: name of the sampler of training negatives.
      sink: receives the facts.
      order: name of the distribution of the epoch order.
      order_method: how the order is made, a key of `ORDERS`; None if it is made otherwise.
    """
    log = sink.point
    log("train_samples", config.train_examples)
    log("eval_samples", config.num_users * (config.eval_negatives + 1))
    log("train_num_negatives", config.train_negatives)
    log("train_negatives_with_replacement", True)
    log("train_sampler", sampler)
    log("train_order", order)
    if order_method is not None:
        log("train_order_method", order_method)


def log_synthetic_run(config: EngineConfig, sink: EventSink) -> EvaluationLists:
    """Logs the training configuration of a run without a dataset and draws its lists.

    Returns:
      Random evaluation lists without masked candidates.
    """
    shape = (config.num_users, config.eval_negatives + 1)

    def draw_random_lists() -> EvaluationLists:
        items = stream(0, STREAM_EVALUATION).integers(0, config.num_items, shape, np.int32)
        return EvaluationLists(items, np.zeros(shape, bool))

    log_training_config(config, "synthetic", sink, order="synthetic")
    return make_and_log_lists(config, False, draw_random_lists, sink)


def log_synthetic_negatives(epoch: int, sink: EventSink) -> None:
    """Logs that the negatives of an epoch are generated together with its batches."""
    sink.start("train_neg_gen_start", epoch_num=epoch, negatives="synthetic")
    sink.end("train_neg_gen_stop", epoch_num=epoch, status="complete")


def make_evaluation_lists(
    config: EngineConfig, split: Split, sampler: NegativeSampler, seed: int
) -> EvaluationLists:
    """Draws the evaluation lists, which depend only on the configuration, split and seed."""
    return draw_evaluation_lists(
        split, config.eval_negatives, sampler, stream(seed, STREAM_EVALUATION)
    )


def draw_and_log_lists(
    config: EngineConfig,
    split: Split,
    sampler: NegativeSampler,
    seed: int,
    sink: EventSink,
) -> EvaluationLists:
    """Draws the evaluation lists of a run and logs the interval."""
    are_published = split.eval_negatives is not None
    return make_and_log_lists(
        config, are_published, lambda: make_evaluation_lists(config, split, sampler, seed), sink
    )


def make_and_log_lists(
    config: EngineConfig,
    are_published: bool,
    make_lists: Callable[[], EvaluationLists | StreamedEvaluationLists],
    sink: EventSink,
    **metadata: str,
) -> EvaluationLists | StreamedEvaluationLists:
    """Logs the evaluation configuration, calls `make_lists` and logs its interval.

    Args:
      config: the sizes.
      are_published: whether the dataset publishes the evaluation negatives.
      make_lists: draws or reads the lists.
      sink: receives the facts.
      **metadata: logged at the start of the interval.

    Returns:
      The lists.
    """
    sink.point("eval_num_users", config.num_users)
    sink.point("eval_num_negatives", config.eval_negatives)
    sink.point("eval_negatives_with_replacement", not are_published)
    sink.point("eval_top_k", config.top_k)
    sink.start("eval_neg_gen_start", **metadata)
    lists = make_lists()
    # The held-out item and the unmasked negatives.
    mean_candidates = 1 + config.eval_negatives - lists.num_masked / config.num_users
    sink.end("eval_neg_gen_stop", masked_duplicates=lists.num_masked,
             mean_candidates=round(mean_candidates, 6))
    return lists
