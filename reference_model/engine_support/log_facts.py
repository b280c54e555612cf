"""What every engine of this project says to its sink, in one place."""

from __future__ import annotations

from typing import Callable

import numpy as np

from reference_model.base.config import EngineConfig
from reference_model.data.split import Split
from reference_model.events import EventSink
from reference_model.sampling.evaluation_lists import (
    EvaluationLists,
    ListsInTurn,
    draw_evaluation_lists,
)
from reference_model.sampling.negatives import NegativeSampler
from reference_model.sampling.random_streams import STREAM_EVALUATION, stream


def say_model(config: EngineConfig, sink: EventSink) -> None:
    """The model's and the optimizer's facts, before the clock starts."""
    say = sink.point
    per_user = config.eval_negatives + 1
    say("precision", config.precision)
    say("global_batch_size", config.batch_size)
    say("eval_batch_size", config.users_per_eval_batch * per_user)
    say("opt_name", config.optimizer)
    say("opt_base_learning_rate", config.learning_rate)
    say("opt_adam_beta_1", config.beta1)
    say("opt_adam_beta_2", config.beta2)
    say("opt_adam_epsilon", config.epsilon)
    say("model_loss_fn", "binary_cross_entropy")
    say("model_mf_dim", config.mf_dim)
    say("model_mlp_layer_sizes", list(config.mlp_layers))
    say("model_l2_mf", config.l2_mf)
    say("model_l2_mlp", list(config.l2_mlp or (0.0,) * len(config.mlp_layers)))


def say_training(
    config: EngineConfig, sampler: str, sink: EventSink, order: str = "uniform_permutation"
) -> None:
    """What is trained on and how its negatives are drawn."""
    say = sink.point
    say("train_samples", config.train_examples)
    say("eval_samples", config.num_users * (config.eval_negatives + 1))
    say("train_num_negatives", config.train_negatives)
    say("train_negatives_with_replacement", True)
    say("train_sampler", sampler)
    say("train_order", order)


def say_synthetic(config: EngineConfig, sink: EventSink) -> EvaluationLists:
    """What a run without a dataset says of it; returns random lists to be ranked."""
    shape = (config.num_users, config.eval_negatives + 1)

    def made_up() -> EvaluationLists:
        items = stream(0, STREAM_EVALUATION).integers(0, config.num_items, shape, np.int32)
        return EvaluationLists(items, np.zeros(shape, bool))

    say_training(config, "synthetic", sink, order="synthetic")
    return say_lists(config, False, made_up, sink)


def say_no_negatives(epoch: int, sink: EventSink) -> None:
    """That the negatives of an epoch are made up with its batches."""
    sink.start("train_neg_gen_start", epoch_num=epoch, negatives="synthetic")
    sink.end("train_neg_gen_stop", epoch_num=epoch, status="complete")


def make_evaluation_lists(
    config: EngineConfig, split: Split, sampler: NegativeSampler, seed: int
) -> EvaluationLists:
    """The lists of one run: a function of configuration, split and seed."""
    return draw_evaluation_lists(
        split, config.eval_negatives, sampler, stream(seed, STREAM_EVALUATION)
    )


def say_evaluation_lists(
    config: EngineConfig,
    split: Split,
    sampler: NegativeSampler,
    seed: int,
    sink: EventSink,
) -> EvaluationLists:
    """Draws the lists of a run and says so."""
    given = split.eval_negatives is not None
    return say_lists(
        config, given, lambda: make_evaluation_lists(config, split, sampler, seed), sink
    )


def say_lists(
    config: EngineConfig,
    given: bool,
    make: Callable[[], EvaluationLists | ListsInTurn],
    sink: EventSink,
    **how: str,
) -> EvaluationLists | ListsInTurn:
    """Has the lists of a run made and says so; `given`: the dataset publishes them."""
    sink.point("eval_num_users", config.num_users)
    sink.point("eval_num_negatives", config.eval_negatives)
    sink.point("eval_negatives_with_replacement", not given)
    sink.point("eval_top_k", config.top_k)
    sink.start("eval_neg_gen_start", **how)
    lists = make()
    sink.end("eval_neg_gen_stop", masked_duplicates=lists.repeated)
    return lists
