"""What every engine of this project says to its sink, in one place."""

from __future__ import annotations

from reference_model.engine import EngineConfig
from reference_model.events import EventSink
from reference_model.sampling import (
    STREAM_EVALUATION,
    EvaluationLists,
    NegativeSampler,
    draw_evaluation_lists,
    stream,
)
from reference_model.split import Split


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


def say_training(config: EngineConfig, split: Split, sampler: str, sink: EventSink) -> None:
    """What is trained on and how its negatives are drawn."""
    say = sink.point
    say("train_samples", split.num_positives * (1 + config.train_negatives))
    say("eval_samples", split.num_users * (config.eval_negatives + 1))
    say("train_num_negatives", config.train_negatives)
    say("train_negatives_with_replacement", True)
    say("train_sampler", sampler)
    say("train_order", "uniform_permutation")


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
    sink.point("eval_num_users", split.num_users)
    sink.point("eval_num_negatives", config.eval_negatives)
    sink.point("eval_negatives_with_replacement", not given)
    sink.point("eval_top_k", config.top_k)
    sink.start("eval_neg_gen_start")
    lists = make_evaluation_lists(config, split, sampler, seed)
    sink.end("eval_neg_gen_stop", masked_duplicates=int(lists.masked.sum()))
    return lists
