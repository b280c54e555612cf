"""The one list of what a log of ours may say.

`TAGS` maps each MLLOG key to its meaning; `harness` writes no other key, and the
rules in `rules/*.yaml` speak of these.  Keys that `mlperf_logging` defines keep
its spelling.  Times are milliseconds since the epoch, in the record itself.

Stages: submission, setup (untimed, before run_start), preprocessing, sampling,
optimizer, model, training, evaluation, run.  `value` is the JSON type of the
value ("none": the record carries no value); `metadata` lists what must stand in
the metadata beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

POINT, START, STOP = "point", "start", "stop"
EVENT_TYPES = {POINT: "POINT_IN_TIME", START: "INTERVAL_START", STOP: "INTERVAL_END"}

# Ways a run can end, in run_stop's metadata "reason".
REASONS = ("target", "epoch_cap", "nan_loss", "interrupted", "exception", "stalled", "killed")
# An attempt that ended in one of these ways is no run: it is neither scored nor counted.
NO_RUN_REASONS = ("interrupted", "exception", "stalled", "killed")


@dataclass(frozen=True)
class Tag:
    """One key of the log: what it means and what its record carries."""

    key: str
    kind: str
    meaning: str
    value: str
    unit: str
    stage: str
    metadata: tuple[str, ...] = ()

    @property
    def event_type(self) -> str:
        """The MLLOG event type of its records."""
        return EVENT_TYPES[self.kind]


def _point(stage: str, key: str, value: str, meaning: str, unit: str = "",
           metadata: tuple[str, ...] = ()) -> list[Tag]:
    return [Tag(key, POINT, meaning, value, unit, stage, metadata)]


def _interval(stage: str, key: str, meaning: str, start: tuple[str, ...] = (),
              stop: tuple[str, ...] = ()) -> list[Tag]:
    return [Tag(f"{key}_start", START, f"{meaning} begins", "none", "", stage, start),
            Tag(f"{key}_stop", STOP, f"{meaning} ends", "none", "", stage, stop)]


_EPOCH = ("epoch_num",)

_LIST: list[list[Tag]] = [
    _point("submission", "submission_benchmark", "string", "the benchmark: always ncf"),
    _point("submission", "submission_org", "string", "who submits"),
    _point("submission", "submission_division", "string", "closed or open"),
    _point("submission", "submission_status", "string",
           "availability of the system: onprem, cloud, preview or research"),
    _point("submission", "submission_platform", "string",
           "name of the system, as in results/<system>"),
    _point("submission", "track", "string", "name of the track that the run follows"),
    _point("submission", "seed", "integer", "the run's seed, unique within its set"),
    _point("submission", "attempt", "object",
           "which attempt of its set the log is, and the ones since the last result with the "
           "digests of their logs (compliance/links.py)"),
    _point("setup", "cache_clear", "boolean",
           "whether the system's file caches were cleared; metadata says why not"),
    _point("setup", "source", "string",
           "SHA-256 of the source that ran (harness/provenance.py)", metadata=("commit", "dirty")),
    _point("setup", "versions", "object", "versions of Python and the packages that matter"),
    _point("setup", "configuration", "object",
           "every setting that the run depends on, by the names of the harness's RunConfig"),
    _point("setup", "clock_source", "string",
           "what the kernel counts time with; metadata names the clock of durations and of dates",
           metadata=("durations", "dates")),
    _interval("setup", "init", "untimed set-up (devices, model, compilation on random data)"),
    _point("setup", "engine", "string", "the training engine: a built-in name or module:Class"),
    _point("setup", "precision", "string", "floating-point type of the products"),
    _point("setup", "device", "string", "cpu, gpu or tpu", metadata=("num_devices",)),
    _point("optimizer", "global_batch_size", "integer",
           "training examples per step over all devices", "examples"),
    _point("optimizer", "opt_name", "string", "optimizer: adam or lazy_adam"),
    _point("optimizer", "opt_base_learning_rate", "number", "learning rate"),
    _point("optimizer", "opt_adam_beta_1", "number", "Adam's decay of the first moment"),
    _point("optimizer", "opt_adam_beta_2", "number", "Adam's decay of the second moment"),
    _point("optimizer", "opt_adam_epsilon", "number", "Adam's epsilon, placed as Keras places it"),
    _point("model", "model_loss_fn", "string", "loss: binary_cross_entropy"),
    _point("model", "model_mf_dim", "integer", "width of the GMF embeddings"),
    _point("model", "model_mlp_layer_sizes", "list",
           "widths of the MLP, the concatenated input first"),
    _point("model", "model_l2_mf", "number", "L2 factor of the GMF embeddings"),
    _point("model", "model_l2_mlp", "list", "L2 factors of the MLP, one for each layer size"),
    _interval("run", "run", "the timed run", start=("wall_time_ms",),
              stop=("status", "epoch_num", "reason", "wall_time_ms")),
    _point("preprocessing", "dataset_name", "string", "name of the dataset"),
    _point("preprocessing", "dataset_digest", "string", "SHA-256 of the split that was loaded"),
    _point("preprocessing", "dataset_min_ratings", "integer",
           "ratings that a user needed to stay", "ratings"),
    _point("preprocessing", "dataset_num_users", "integer", "users after filtering", "users"),
    _point("preprocessing", "dataset_num_items", "integer", "items after filtering", "items"),
    _point("preprocessing", "dataset_num_positives", "integer",
           "training positives, held-out ratings left out", "pairs"),
    _point("sampling", "train_samples", "integer",
           "examples in one epoch: positives and their negatives", "examples"),
    _point("sampling", "train_num_negatives", "integer",
           "negatives drawn for each positive, anew each epoch"),
    _point("sampling", "train_negatives_with_replacement", "boolean",
           "whether training negatives may repeat"),
    _point("sampling", "train_sampler", "string",
           "how negatives are drawn: complement_table or bisection"),
    _point("sampling", "train_order", "string",
           "order of the examples within an epoch: uniform_permutation"),
    _interval("sampling", "train_neg_gen",
              "preparation of an epoch's negatives and order (may overlap the epoch before)",
              start=_EPOCH, stop=_EPOCH),
    _point("evaluation", "eval_samples", "integer",
           "pairs in one evaluation: users x (1 + negatives)", "pairs"),
    _point("evaluation", "eval_batch_size", "integer",
           "scored pairs per evaluation step over all devices", "pairs"),
    _point("evaluation", "eval_num_users", "integer", "users evaluated after every epoch", "users"),
    _point("evaluation", "eval_num_negatives", "integer",
           "negatives that each held-out item is ranked against"),
    _point("evaluation", "eval_negatives_with_replacement", "boolean",
           "whether evaluation negatives may repeat (repeats are masked)"),
    _point("evaluation", "eval_top_k", "integer",
           "a hit: the held-out item among the best this many"),
    _point("evaluation", "eval_target", "number or null", "hit rate at which the run may stop"),
    _interval("evaluation", "eval_neg_gen", "drawing of the evaluation lists, once per run"),
    _interval("training", "epoch", "one epoch's training", start=_EPOCH, stop=_EPOCH),
    _interval("evaluation", "eval", "one evaluation over every user", start=_EPOCH,
              stop=("epoch_num", "hits")),
    _point("evaluation", "eval_accuracy", "number", "HR@k: hits / users, to 15 decimals", "share",
           metadata=("epoch_num", "samples_count")),
    _point("evaluation", "eval_ndcg", "number",
           "NDCG@k, mean over users", "share", metadata=_EPOCH),
    _point("run", "tracked_stats", "object",
           "throughput (examples/s), eval_throughput (pairs/s), loss, train_seconds, eval_seconds",
           metadata=_EPOCH),
    _point("run", "data_digests", "object",
           "after run_stop: SHA-256 of the first_batch, the first_epoch and the evaluation_lists "
           "(harness/digests.py)"),
    _point("run", "checkpoint", "string",
           "after run_stop: SHA-256 of the file with the final weights", metadata=("bytes",)),
]

TAGS: dict[str, Tag] = {tag.key: tag for group in _LIST for tag in group}

# The tags of MLPerf Training v0.5 that its NCF implementations write.
V05_TAGS: dict[str, str] = {
    "run_clear_caches": "the system's caches were cleared",
    "run_init": "set-up begins",
    "run_start": "the clock starts",
    "run_stop": "the clock stops; {\"success\": true|false}",
    "run_final": "nothing more follows",
    "run_set_random_seed": "the run's seed",
    "attempt": "ours, no tag of v0.5: which attempt of its set the log is",
    "preproc_hp_min_ratings": "ratings that a user needed to stay",
    "preproc_hp_num_eval": "evaluation negatives per user",
    "preproc_hp_sample_eval_replacement": "whether evaluation negatives may repeat",
    "input_size": "training positives",
    "input_batch_size": "training examples per step",
    "input_order": "the training examples are put in order",
    "input_shard": "the training examples are divided among devices",
    "input_hp_num_neg": "negatives drawn for each positive",
    "input_hp_sample_train_replacement": "whether training negatives may repeat",
    "input_step_train_neg_gen": "training negatives are drawn",
    "input_step_eval_neg_gen": "evaluation negatives are drawn",
    "opt_name": "the optimizer",
    "opt_learning_rate": "the learning rate",
    "opt_hp_Adam_beta1": "Adam's beta1",
    "opt_hp_Adam_beta2": "Adam's beta2",
    "opt_hp_Adam_epsilon": "Adam's epsilon",
    "model_hp_loss_fn": "the loss",
    "model_hp_mf_dim": "width of the GMF embeddings",
    "model_hp_mlp_layer_sizes": "widths of the MLP",
    "train_loop": "training begins",
    "train_epoch": "an epoch begins; its number from 0",
    "eval_start": "an evaluation begins; the epoch's number",
    "eval_size": "pairs in the evaluation; {\"epoch\", \"value\"}",
    "eval_target": "hit rate at which the run may stop",
    "eval_accuracy": "HR@10; {\"epoch\", \"value\"}",
    "eval_stop": "an evaluation ends",
    "eval_hp_num_users": "users evaluated",
    "eval_hp_num_neg": "negatives per user in the evaluation",
}
