"""All keys that a log of this project may have, with their meanings: the log format as data.

`LOG_KEYS` contains every MLLOG key. `harness` writes no other key, and the rules in
`rules/*.yaml` refer to these keys. Keys defined by `mlperf_logging` keep its spelling.
`FIELDS` contains the meanings of the names inside values and metadata, `EXAMPLES` a record of
each key, `V05_TAGS` and `V05_EXAMPLES` the same for the dialect of MLPerf v0.5.
docs/log-format.md is generated from all of them (compliance/report/log_page.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Kinds of keys, and the MLLOG event type of their records.
POINT, START, STOP = "point", "start", "stop"
EVENT_TYPES = {POINT: "POINT_IN_TIME", START: "INTERVAL_START", STOP: "INTERVAL_END"}

# Values of "reason" in the metadata of run_stop.
REASONS = ("target", "epoch_cap", "nan_loss", "interrupted", "exception", "stalled", "killed",
           "worker_lost")
# An attempt that ended for one of these reasons is not a run: it is neither scored nor counted.
NO_RUN_REASONS = ("interrupted", "exception", "stalled", "killed", "worker_lost")


@dataclass(frozen=True)
class LogKey:
    """One key of the log.

    Attributes:
      key: The key as logged.
      kind: POINT, START or STOP.
      meaning: One line.
      value: The JSON type of the record's value; "none" if the value is null.
      unit: The value's unit, or "".
      stage: submission, setup (untimed, before run_start), preprocessing, sampling,
        optimizer, model, training, evaluation or run.
      metadata: The names that the record's metadata must have.
    """

    key: str
    kind: str
    meaning: str
    value: str
    unit: str
    stage: str
    metadata: tuple[str, ...] = ()

    @property
    def event_type(self) -> str:
        """The MLLOG event type of the key's records."""
        return EVENT_TYPES[self.kind]


def _point(stage: str, key: str, value: str, meaning: str, unit: str = "",
           metadata: tuple[str, ...] = ()) -> list[LogKey]:
    """The key of a single record."""
    return [LogKey(key, POINT, meaning, value, unit, stage, metadata)]


def _interval(stage: str, key: str, meaning: str, start: tuple[str, ...] = (),
              stop: tuple[str, ...] = ()) -> list[LogKey]:
    """The keys NAME_start and NAME_stop; `start` and `stop` are the metadata of each."""
    return [LogKey(f"{key}_start", START, f"{meaning} begins", "none", "", stage, start),
            LogKey(f"{key}_stop", STOP, f"{meaning} ends", "none", "", stage, stop)]


_EPOCH = ("epoch_num",)

_GROUPS: list[list[LogKey]] = [
    _point("submission", "submission_benchmark", "string", "the benchmark: always ncf"),
    _point("submission", "submission_org", "string", "the submitting organization"),
    _point("submission", "submission_division", "string", "closed or open"),
    _point("submission", "submission_status", "string",
           "availability of the system: onprem, cloud, preview or research"),
    _point("submission", "submission_platform", "string",
           "name of the system, as in results/<system>"),
    _point("submission", "track", "string", "name of the track that the run follows"),
    _point("submission", "seed", "integer", "the run's seed, unique within its set"),
    _point("submission", "attempt", "object",
           "the attempt that the log records, and the attempts since the last result with the "
           "digests of their logs (compliance/chain/attempt_record.py)"),
    _point("setup", "cache_clear", "boolean",
           "whether the system's file caches were cleared; metadata may contain the method, or "
           "the reason why not"),
    _point("setup", "source", "string",
           "SHA-256 of the source that ran (harness/logs/provenance.py)",
           metadata=("commit", "dirty")),
    _point("setup", "versions", "object", "versions of Python and of the main packages"),
    _point("setup", "configuration", "object",
           "every setting that the run depends on, named as in the harness's RunConfig; required "
           "in the closed division"),
    _point("setup", "clock_source", "string",
           "the kernel's clock source; metadata names the clocks of durations and of dates",
           metadata=("durations", "dates")),
    _interval("setup", "init", "untimed set-up (devices, model, compilation on random data)"),
    _point("setup", "engine", "string", "the training engine: a built-in name or module:Class"),
    _point("setup", "runtime", "string",
           "the runtime of the engine's programs: tensorflow or pjrt; metadata names the PJRT "
           "client and the digest of exported programs"),
    _point("setup", "precision", "string",
           "floating-point type of the matrix products; for bfloat16, the metadata `operands` "
           "tells whether they are multiplied as bfloat16 or as rounded float32"),
    _point("setup", "device", "string", "device type: cpu, gpu, tpu",
           metadata=("num_devices",)),
    _point("optimizer", "global_batch_size", "integer",
           "training examples per step over all devices", "examples"),
    _point("optimizer", "opt_name", "string", "optimizer: adam or lazy_adam"),
    _point("optimizer", "opt_base_learning_rate", "number", "learning rate"),
    _point("optimizer", "opt_adam_beta_1", "number", "Adam's decay of the first moment"),
    _point("optimizer", "opt_adam_beta_2", "number", "Adam's decay of the second moment"),
    _point("optimizer", "opt_adam_epsilon", "number", "Adam's epsilon, placed as in Keras"),
    _point("model", "model_loss_fn", "string", "loss: binary_cross_entropy"),
    _point("model", "model_mf_dim", "integer", "width of the GMF embeddings", "columns"),
    _point("model", "model_mlp_layer_sizes", "list",
           "widths of the MLP layers, beginning with the concatenated input", "columns"),
    _point("model", "model_l2_mf", "number", "L2 factor of the GMF embeddings"),
    _point("model", "model_l2_mlp", "list", "L2 factors of the MLP, one for each layer size"),
    _interval("run", "run", "the timed run", start=("wall_time_ms",),
              stop=("status", "epoch_num", "reason", "wall_time_ms")),
    _point("preprocessing", "dataset_name", "string", "name of the dataset"),
    _point("preprocessing", "dataset_digest", "string", "SHA-256 of the split that was loaded"),
    _point("preprocessing", "dataset_min_ratings", "integer",
           "users with fewer ratings were removed", "ratings"),
    _point("preprocessing", "dataset_num_users", "integer", "users after filtering", "users"),
    _point("preprocessing", "dataset_num_items", "integer", "items after filtering", "items"),
    _point("preprocessing", "dataset_num_positives", "integer",
           "training positives, without the held-out ratings", "pairs"),
    _point("sampling", "train_samples", "integer",
           "examples in one epoch: positives and their negatives", "examples"),
    _point("sampling", "train_num_negatives", "integer",
           "negatives drawn for each positive in every epoch", "items"),
    _point("sampling", "train_negatives_with_replacement", "boolean",
           "whether training negatives may repeat"),
    _point("sampling", "train_sampler", "string",
           "how negatives are drawn: complement_table or bisection"),
    _point("sampling", "train_order", "string",
           "order of the examples within an epoch: uniform_permutation"),
    _point("sampling", "train_order_method", "string",
           "how the order is made from the seed: assignment (random assignment to batches, on the "
           "host) or sorted_keys (random keys, sorted on the device); logs without it: assignment"),
    _point("sampling", "negatives_drawn", "string",
           "when the negatives of this run were drawn: in_run, or before_clock (prepared shards)"),
    _interval("sampling", "train_neg_gen",
              "preparation of an epoch's negatives and order (may overlap the previous epoch)",
              start=_EPOCH, stop=_EPOCH),
    _point("evaluation", "eval_samples", "integer",
           "pairs in one evaluation: users x (1 + negatives)", "pairs"),
    _point("evaluation", "eval_batch_size", "integer",
           "scored pairs per evaluation step over all devices", "pairs"),
    _point("evaluation", "eval_num_users", "integer", "users evaluated after every epoch", "users"),
    _point("evaluation", "eval_num_negatives", "integer",
           "negatives ranked against each held-out item", "items"),
    _point("evaluation", "eval_negatives_with_replacement", "boolean",
           "whether evaluation negatives may repeat (repeats are masked)"),
    _point("evaluation", "eval_top_k", "integer",
           "k: a hit is a held-out item among the best k", "items"),
    _point("evaluation", "eval_target", "number or null", "hit rate at which the run may stop",
           "share"),
    _interval("evaluation", "eval_neg_gen", "drawing of the evaluation lists (once per run)"),
    _interval("training", "epoch", "one epoch's training", start=_EPOCH, stop=_EPOCH),
    _interval("evaluation", "eval", "one evaluation over every user", start=_EPOCH,
              stop=("epoch_num", "hits")),
    _point("evaluation", "eval_accuracy", "number", "HR@k: hits / users, to 15 decimals", "share",
           metadata=("epoch_num", "samples_count")),
    _point("evaluation", "eval_ndcg", "number",
           "NDCG@k, mean over users", "share", metadata=_EPOCH),
    _point("run", "tracked_stats", "object",
           "throughput (examples/s), eval_throughput (pairs/s), loss, train_seconds, "
           "eval_seconds; eval_scores if the engine counts them",
           metadata=_EPOCH),
    _point("run", "machine_load", "object",
           "what else used the processors (on several machines, the chief's): once before "
           "run_start, over the set-up, and once after run_stop, over the run; a member is null if "
           "the system does not count it", metadata=("when",)),
    _point("run", "epoch_variation", "object",
           "after run_stop: how much the seconds of the epochs vary, without the first; members "
           "are null for runs of fewer than 4 epochs (compliance/logs/epoch_times.py)"),
    _point("run", "data_digests", "object",
           "after run_stop: SHA-256 of the first_batch, the first_epoch and the evaluation_lists "
           "(harness/logs/data_digests.py)"),
    _point("run", "checkpoint", "string",
           "after run_stop: SHA-256 of the file with the final weights", metadata=("bytes",)),
]

LOG_KEYS: dict[str, LogKey] = {key.key: key for group in _GROUPS for key in group}

# (meaning, unit) of the names inside object values and metadata.
FIELDS: dict[str, tuple[str, str]] = {
    "attempt": ("number of the attempt in its set, from 1", ""),
    "bytes": ("size of the file", "bytes"),
    "commit": ("commit of the checkout, null if there is none", ""),
    "cpus": ("processors that the process may use", ""),
    "dates": ("the clock of time_ms and of wall_time_ms", ""),
    "deterministic": ("whether --seed requested a repeatable run", ""),
    "dirty": ("whether the checkout had uncommitted changes", ""),
    "durations": ("the clock used for durations", ""),
    "epoch_num": ("the epoch, from 1", ""),
    "epochs": ("epochs that were compared", "epochs"),
    "excess_share": ("mean epoch over the mean of the fastest quarter, minus 1", "share"),
    "eval_scores": ("pairs whose score was computed; fewer than samples_count if fewer "
                    "determine HR@k and NDCG@k", "pairs"),
    "eval_seconds": ("time of this epoch's evaluation", "s"),
    "eval_throughput": ("samples_count divided by eval_seconds", "pairs/s"),
    "evaluation_lists": ("SHA-256 of the evaluation lists", ""),
    "file": ("the source file that wrote the record", ""),
    "first_batch": ("SHA-256 of the first training batch", ""),
    "first_epoch": ("SHA-256 of the first epoch's examples in order", ""),
    "hits": ("users whose held-out item is among the best k", "users"),
    "joins": ("the launcher of the previous attempt, if it was a different one", ""),
    "launcher": ("random name of the process that started the attempt", ""),
    "load_1min": ("mean number of runnable threads in the last minute, this run's included", ""),
    "lineno": ("the line in that file", ""),
    "loss": ("mean training loss of the epoch", ""),
    "masked_duplicates": ("drawn negatives that are masked: repeats and the held-out item",
                          "items"),
    "mean_candidates": ("mean number of items ranked for a user: the held-out item and the "
                        "negatives that are not masked", "items"),
    "name": ("name of the device as reported by its driver", ""),
    "negatives": ("in_step: drawn inside the training step; in_run, before_clock: read from "
                  "shards written during the run or before run_start; synthetic: not drawn", ""),
    "num_devices": ("devices used for training", "devices"),
    "other_cpus": ("mean number of processors that other programs used", "processors"),
    "previous": ("attempts since the last result, with the digests of their logs", ""),
    "profiled": ("in run_start: whether TensorFlow's profiler ran", ""),
    "range_share": ("slowest epoch over the fastest, minus 1", "share"),
    "reason": ("in run_stop: " + ", ".join(REASONS) + "; in cache_clear: the method, or the reason "
               "why not", ""),
    "resolution_s": ("resolution of the clock of durations", "s"),
    "run": ("number of the run in its set, from 0", ""),
    "samples_count": ("pairs in the evaluation lists, masked ones included", "pairs"),
    "seconds": ("time over which the load was measured", "s"),
    "set": ("start time of the set, which is its name", "UTC"),
    "status": ("in run_stop: success or aborted; in train_neg_gen_stop: complete, used or "
               "cancelled", ""),
    "steal_share": ("share of the processors' time that the hypervisor gave to other machines",
                    "share"),
    "steps": ("training steps of the epoch", "steps"),
    "strategy": ("the tf.distribute strategy, or one_device", ""),
    "synthetic_batches": ("in run_start: whether the batches were synthetic, with no dataset", ""),
    "threads": ("processors that a CPU run may use; null on other devices", ""),
    "throughput": ("training examples divided by train_seconds, sampling included",
                   "examples/s"),
    "train_seconds": ("time of this epoch's training", "s"),
    "when": ("before_run or after_run", ""),
    "workers": ("worker machines of the run", ""),
    "wall_time_ms": ("raw wall time of the system", "ms"),
}

# (value, metadata without file and lineno) of a record of each key from a run of ml-100k; long
# objects are shortened. tests/compliance/logs/test_keys.py compares them with a real log.
EXAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "submission_benchmark": ("ncf", {}),
    "submission_org": ("Example Labs", {}),
    "submission_division": ("closed", {}),
    "submission_status": ("onprem", {}),
    "submission_platform": ("amd-epyc-2cpu", {}),
    "track": ("ml-100k", {}),
    "seed": (28921992, {"deterministic": False}),
    "attempt": (
        {"set": "20261121T121623Z", "attempt": 1, "run": 0, "launcher": "1b2610c82a7ba6ea",
         "joins": None, "previous": []}, {}),
    "cache_clear": (True, {"reason": "drop_caches"}),
    "source": (
        "cab3753d1906eaa91349ea75e0ee001d1ede24bb70f1605b3a19fb1e4c1a8f4f",
        {"commit": "1f5bb36cab527c2bdd245534deaf3c7b70b95a0a", "dirty": False}),
    "versions": ({"python": "3.11.7", "tensorflow-cpu": "2.21.0", "keras": "3.15.1"}, {}),
    "configuration": (
        {"track_name": "ml-100k", "division": "closed", "engine": "fused", "batch_size": 4096,
         "learning_rate": 0.004}, {}),
    "clock_source": (
        "tsc",
        {"durations": "clock_gettime(CLOCK_MONOTONIC)",
         "dates": "clock_gettime(CLOCK_REALTIME)",
         "resolution_s": 1e-09}),
    "init_start": (None, {}),
    "init_stop": (None, {}),
    "engine": ("fused", {}),
    "runtime": ("tensorflow", {}),
    "precision": ("float32", {}),
    "device": ("cpu", {"num_devices": 1, "name": "AMD EPYC", "threads": 2}),
    "global_batch_size": (4096, {}),
    "opt_name": ("adam", {}),
    "opt_base_learning_rate": (0.004, {}),
    "opt_adam_beta_1": (0.783529, {}),
    "opt_adam_beta_2": (0.909003, {}),
    "opt_adam_epsilon": (1.45439e-07, {}),
    "model_loss_fn": ("binary_cross_entropy", {}),
    "model_mf_dim": (8, {}),
    "model_mlp_layer_sizes": ([64, 32, 16, 8], {}),
    "model_l2_mf": (0.0, {}),
    "model_l2_mlp": ([0.0, 0.0, 0.0, 0.0], {}),
    "run_start": (None, {"wall_time_ms": 1795263404157}),
    "run_stop": (
        None,
        {"status": "success", "epoch_num": 10, "reason": "target", "wall_time_ms": 1795263408451}),
    "dataset_name": ("ml-100k", {}),
    "dataset_digest": ("a32bfc7f64ac6adcf8c646382bc67d6c1630330808b5710d6e3b2e146284b274", {}),
    "dataset_min_ratings": (20, {}),
    "dataset_num_users": (943, {}),
    "dataset_num_items": (1682, {}),
    "dataset_num_positives": (99057, {}),
    "train_samples": (495285, {}),
    "train_num_negatives": (4, {}),
    "train_negatives_with_replacement": (True, {}),
    "train_sampler": ("complement_table", {}),
    "train_order": ("uniform_permutation", {}),
    "train_order_method": ("assignment", {}),
    "negatives_drawn": ("in_run", {}),
    "train_neg_gen_start": (None, {"epoch_num": 1, "negatives": "in_step"}),
    "train_neg_gen_stop": (None, {"epoch_num": 1, "status": "complete"}),
    "eval_samples": (943000, {}),
    "eval_batch_size": (200000, {}),
    "eval_num_users": (943, {}),
    "eval_num_negatives": (999, {}),
    "eval_negatives_with_replacement": (True, {}),
    "eval_top_k": (10, {}),
    "eval_target": (0.197, {}),
    "eval_neg_gen_start": (None, {}),
    "eval_neg_gen_stop": (None, {"masked_duplicates": 244980}),
    "epoch_start": (None, {"epoch_num": 1}),
    "epoch_stop": (None, {"epoch_num": 1, "steps": 121, "loss": 0.4089781510247099}),
    "eval_start": (None, {"epoch_num": 1}),
    "eval_stop": (None, {"epoch_num": 1, "hits": 103}),
    "eval_accuracy": (0.109225874867444, {"epoch_num": 1, "samples_count": 943000}),
    "eval_ndcg": (0.059785921511734445, {"epoch_num": 1}),
    "tracked_stats": (
        {"throughput": 1238399.2908613526,
         "eval_throughput": 6110672.733163361,
         "loss": 0.4089781510247099,
         "train_seconds": 0.39994,
         "eval_seconds": 0.15432},
        {"epoch_num": 1}),
    "machine_load": (
        {"seconds": 4.2941, "cpus": 2, "load_1min": 1.87, "other_cpus": 0.0312,
         "steal_share": 0.0041}, {"when": "after_run"}),
    "epoch_variation": ({"epochs": 9, "range_share": 0.0612, "excess_share": 0.0207}, {}),
    "data_digests": (
        {"first_batch": "2e73079ebfff1e2d0ff5d4dba8edecde0d5bcd73c158ad79ff4c47c64ad27596"},
        {}),
    "checkpoint": (
        "16ff5fe0fb9b6f0cc70d9f2e9b3094ea47235cf65f76c493cf4b4412e5fc5a90",
        {"bytes": 433950}),
}

# Meanings of the tags of MLPerf Training v0.5 that its NCF implementations write.
V05_TAGS: dict[str, str] = {
    "run_clear_caches": "the system's caches were cleared",
    "run_init": "set-up begins",
    "run_start": "the clock starts",
    "run_stop": "the clock stops; {\"success\": true|false}",
    "run_final": "the end of the log",
    "run_set_random_seed": "the run's seed",
    "attempt": "added by this harness: the attempt that the log records",
    "mllog": "added by this harness: an MLLOG record without a tag in v0.5",
    "preproc_hp_min_ratings": "users with fewer ratings were removed",
    "preproc_hp_num_eval": "evaluation negatives per user",
    "preproc_hp_sample_eval_replacement": "whether evaluation negatives may repeat",
    "input_size": "training positives",
    "input_batch_size": "training examples per step",
    "input_order": "the training examples are ordered",
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
    "model_hp_mlp_layer_sizes": "widths of the MLP layers",
    "train_loop": "training begins",
    "train_epoch": "an epoch begins; the value is its number, from 0",
    "eval_start": "an evaluation begins; the value is the epoch's number",
    "eval_size": "pairs in the evaluation; {\"epoch\", \"value\"}",
    "eval_target": "hit rate at which the run may stop",
    "eval_accuracy": "HR@10; {\"epoch\", \"value\"}",
    "eval_stop": "an evaluation ends",
    "eval_hp_num_users": "users evaluated",
    "eval_hp_num_neg": "negatives per user in the evaluation",
}

# The value after the tag in a log of this harness with --log_format=v0.5. Tags that only mark
# a moment have no value.
V05_EXAMPLES: dict[str, str] = {
    "run_stop": '{"success": true}',
    "run_set_random_seed": "1698140076",
    "attempt": '{"set": "20261121T121652Z", "attempt": 1, "run": 0, ...}',
    "mllog": '{"key": "track", "value": "ml-100k", "metadata": {}}',
    "preproc_hp_min_ratings": "20",
    "preproc_hp_num_eval": "999",
    "preproc_hp_sample_eval_replacement": "true",
    "input_size": "99057",
    "input_batch_size": "4096",
    "input_shard": "1",
    "input_hp_num_neg": "4",
    "input_hp_sample_train_replacement": "true",
    "opt_name": '"Adam"',
    "opt_learning_rate": "0.004",
    "opt_hp_Adam_beta1": "0.783529",
    "opt_hp_Adam_beta2": "0.909003",
    "opt_hp_Adam_epsilon": "1.45439e-07",
    "model_hp_loss_fn": '"binary_cross_entropy"',
    "model_hp_mf_dim": "8",
    "model_hp_mlp_layer_sizes": "[64, 32, 16, 8]",
    "train_epoch": "0",
    "eval_start": "0",
    "eval_size": '{"epoch": 0, "value": 943000}',
    "eval_target": "0.197",
    "eval_accuracy": '{"epoch": 0, "value": 0.110286320254507}',
    "eval_stop": "0",
    "eval_hp_num_users": "943",
    "eval_hp_num_neg": "999",
}
