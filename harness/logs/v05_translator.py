"""From our events to the tags and value shapes of MLPerf Training v0.5 logs.

Shapes follow the result logs submitted to v0.5 for NCF: `run_stop:
{"success": true}`, epochs from 0, `eval_accuracy: {"epoch": 0, "value": ...}`,
`eval_size: {"epoch": 0, "value": pairs}`, tags without a value where the fact is
the moment itself.

What v0.5 has no tag for, and somebody who was not there needs, stands under a tag of
ours: `mllog: {"key": ..., "value": ..., "metadata": {...}}`. The checker of v0.5 takes any.
`harness.audit.v05_claims` reads such a log back.
"""

from __future__ import annotations

import json
from typing import Any, Callable

Record = tuple[str, str]

OPTIMIZER_NAMES = {"adam": "Adam", "lazy_adam": "LazyAdam"}
OURS = "mllog"

# Our keys that v0.5 has no tag for, or one that says less.
_OURS = {
    "track", "engine", "precision", "device", "source", "versions", "configuration",
    "clock_source", "dataset_digest", "train_samples", "eval_samples", "eval_batch_size",
    "epoch_stop", "eval_ndcg", "eval_stop", "data_digests", "checkpoint", "negatives_drawn",
}  # fmt: skip

# Our keys whose value is the v0.5 tag's value as it stands.
RENAMED = {
    "attempt": "attempt",  # ours: v0.5 has no such tag, and its checker takes any
    "dataset_min_ratings": "preproc_hp_min_ratings",
    "dataset_num_positives": "input_size",
    "global_batch_size": "input_batch_size",
    "model_mf_dim": "model_hp_mf_dim",
    "model_mlp_layer_sizes": "model_hp_mlp_layer_sizes",
    "model_loss_fn": "model_hp_loss_fn",
    "opt_base_learning_rate": "opt_learning_rate",
    "opt_adam_beta_1": "opt_hp_Adam_beta1",
    "opt_adam_beta_2": "opt_hp_Adam_beta2",
    "opt_adam_epsilon": "opt_hp_Adam_epsilon",
    "seed": "run_set_random_seed",
    "train_negatives_with_replacement": "input_hp_sample_train_replacement",
    "eval_negatives_with_replacement": "preproc_hp_sample_eval_replacement",
}

# Our keys whose v0.5 tag marks the moment and carries no value.
_MOMENTS = {
    "init_start": "run_init",
    "run_start": "run_start",
    "run_final": "run_final",  # where it was lost: else it comes with run_stop
    "eval_neg_gen_start": "input_step_eval_neg_gen",
    "train_neg_gen_start": "input_step_train_neg_gen",
    "train_order": "input_order",
}


def _record(tag: str, value: Any) -> Record:
    return tag, ": " + json.dumps(value, allow_nan=False)


class V05Translator:
    """Turns one event after the other into v0.5 records; remembers what recurs.

    v0.5 repeats the negatives with each epoch and the users, negatives, size
    and target with each evaluation, so those are kept from when they were said.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._in_loop = False
        self._special: dict[str, Callable[[Any, dict[str, Any]], list[Record]]] = {
            "cache_clear": self._cache_clear,
            "opt_name": self._opt_name,
            "device": self._device,
            "eval_num_negatives": self._eval_num_negatives,
            "epoch_start": self._epoch_start,
            "eval_start": self._eval_start,
            "eval_accuracy": self._eval_accuracy,
            "eval_stop": self._eval_stop,
            "run_stop": self._run_stop,
        }

    def translate(self, key: str, value: Any, metadata: dict[str, Any]) -> list[Record]:
        """The records (tag, text after the tag) of one event; none for many."""
        self._facts[key] = value
        ours = {"key": key, "value": value, "metadata": metadata}
        return self._theirs(key, value, metadata) + [_record(OURS, ours)] * (key in _OURS)

    def _theirs(self, key: str, value: Any, metadata: dict[str, Any]) -> list[Record]:
        if key in self._special:
            return self._special[key](value, metadata)
        if key in _MOMENTS:
            return [(_MOMENTS[key], "")]
        if key in RENAMED:
            return [_record(RENAMED[key], value)]
        return []

    def _cache_clear(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        if value is True:
            return [("run_clear_caches", "")]
        # Real logs have the bare tag; where nothing was cleared ours says so.
        return [_record("run_clear_caches", {"success": False, **metadata})]

    def _opt_name(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("opt_name", OPTIMIZER_NAMES.get(value, value))]

    def _device(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("input_shard", metadata.get("num_devices", 1))]

    def _eval_num_negatives(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("preproc_hp_num_eval", value)]

    def _epoch_start(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        records: list[Record] = [] if self._in_loop else [("train_loop", "")]
        self._in_loop = True
        records.append(_record("train_epoch", _epoch(metadata)))
        records.append(_record("input_hp_num_neg", self._facts.get("train_num_negatives")))
        return records

    def _eval_start(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("eval_start", _epoch(metadata))]

    def _eval_accuracy(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        epoch, facts = _epoch(metadata), self._facts
        size = metadata.get("samples_count", facts.get("eval_samples"))
        return [
            _record("eval_size", {"epoch": epoch, "value": size}),
            _record("eval_hp_num_users", facts.get("eval_num_users")),
            _record("eval_hp_num_neg", facts.get("eval_num_negatives")),
            _record("eval_accuracy", {"epoch": epoch, "value": value}),
            _record("eval_target", facts.get("eval_target")),
        ]

    def _eval_stop(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("eval_stop", _epoch(metadata))]

    def _run_stop(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        value: dict[str, Any] = {"success": metadata.get("status") == "success"}
        if not value["success"]:  # real logs say no more; ours tells a run from an attempt
            value["reason"] = metadata.get("reason")
        return [_record("run_stop", value), ("run_final", "")]


def _epoch(metadata: dict[str, Any]) -> int:
    """v0.5 counts epochs from 0, we count from 1."""
    return metadata["epoch_num"] - 1
