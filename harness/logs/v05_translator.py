"""Translates MLLOG events to the tags and value formats of MLPerf Training v0.5 logs.

The formats are those of the NCF result logs submitted to v0.5: `run_stop:
{"success": true}`, epochs from 0, `eval_accuracy: {"epoch": 0, "value": ...}`,
`eval_size: {"epoch": 0, "value": pairs}`, and tags without a value for events that only
mark an instant.

If a third party needs an event for which v0.5 has no tag, the event is written under a tag
of this project: `mllog: {"key": ..., "value": ..., "metadata": {...}}`. The v0.5 checker
accepts any tag. `harness.audit.v05_claims` translates such a log back.
"""

from __future__ import annotations

import json
from typing import Any, Callable

# (tag, text after the tag)
Record = tuple[str, str]

# v0.5 names of the optimizers, by our name.
OPTIMIZER_NAMES = {"adam": "Adam", "lazy_adam": "LazyAdam"}
# The tag that contains a whole MLLOG event.
MLLOG_TAG = "mllog"

# Keys for which v0.5 has no tag, or only a tag with less information.
_KEYS_UNDER_MLLOG_TAG = {
    "track", "engine", "runtime", "train_order_method", "precision", "device", "source", "versions", "configuration",
    "clock_source", "dataset_digest", "train_samples", "eval_samples", "eval_batch_size",
    "epoch_stop", "eval_ndcg", "eval_stop", "data_digests", "checkpoint", "negatives_drawn",
    "machine_load", "epoch_variation",
}  # fmt: skip

# v0.5 tags by MLLOG key, for keys with the same value in both dialects.
RENAMED_TAGS = {
    "attempt": "attempt",  # not a v0.5 tag, but the v0.5 checker accepts any tag
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

# v0.5 tags by MLLOG key, for tags that mark an instant and have no value.
_TAGS_WITHOUT_VALUE = {
    "init_start": "run_init",
    "run_start": "run_start",
    "run_final": "run_final",  # only to repair a log without it: run_stop also writes it
    "eval_neg_gen_start": "input_step_eval_neg_gen",
    "train_neg_gen_start": "input_step_train_neg_gen",
    "train_order": "input_order",
}


def _record(tag: str, value: Any) -> Record:
    """Returns a record with a JSON value."""
    return tag, ": " + json.dumps(value, allow_nan=False)


class V05Translator:
    """Translates the events of one run, in their order, to v0.5 records.

    v0.5 repeats the number of negatives at each epoch, and users, negatives, size and target
    at each evaluation. The translator stores these values.
    """

    def __init__(self) -> None:
        self._last_values: dict[str, Any] = {}
        self._has_started_training = False
        # Keys whose v0.5 records differ from the event in more than the name.
        self._handlers: dict[str, Callable[[Any, dict[str, Any]], list[Record]]] = {
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
        """Returns the records of one event; an empty list if v0.5 has no record for it.

        Args:
          key: The event's key, one of `compliance.logs.keys`.
          value: Its value, of JSON types.
          metadata: Its metadata by name.
        """
        self._last_values[key] = value
        records = self._to_v05(key, value, metadata)
        if key in _KEYS_UNDER_MLLOG_TAG:
            event = {"key": key, "value": value, "metadata": metadata}
            return records + [_record(MLLOG_TAG, event)]
        return records

    def _to_v05(self, key: str, value: Any, metadata: dict[str, Any]) -> list[Record]:
        """Returns the records with the tags of v0.5."""
        if key in self._handlers:
            return self._handlers[key](value, metadata)
        if key in _TAGS_WITHOUT_VALUE:
            return [(_TAGS_WITHOUT_VALUE[key], "")]
        if key in RENAMED_TAGS:
            return [_record(RENAMED_TAGS[key], value)]
        return []

    def _cache_clear(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        if value is True:
            return [("run_clear_caches", "")]
        # In submitted logs this tag has no value. A value means that no cache was cleared.
        return [_record("run_clear_caches", {"success": False, **metadata})]

    def _opt_name(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("opt_name", OPTIMIZER_NAMES.get(value, value))]

    def _device(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("input_shard", metadata.get("num_devices", 1))]

    def _eval_num_negatives(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("preproc_hp_num_eval", value)]

    def _epoch_start(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        records: list[Record] = [] if self._has_started_training else [("train_loop", "")]
        self._has_started_training = True
        records.append(_record("train_epoch", _v05_epoch(metadata)))
        records.append(_record("input_hp_num_neg", self._last_values.get("train_num_negatives")))
        return records

    def _eval_start(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("eval_start", _v05_epoch(metadata))]

    def _eval_accuracy(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        epoch, last_values = _v05_epoch(metadata), self._last_values
        size = metadata.get("samples_count", last_values.get("eval_samples"))
        return [
            _record("eval_size", {"epoch": epoch, "value": size}),
            _record("eval_hp_num_users", last_values.get("eval_num_users")),
            _record("eval_hp_num_neg", last_values.get("eval_num_negatives")),
            _record("eval_accuracy", {"epoch": epoch, "value": value}),
            _record("eval_target", last_values.get("eval_target")),
        ]

    def _eval_stop(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        return [_record("eval_stop", _v05_epoch(metadata))]

    def _run_stop(self, value: Any, metadata: dict[str, Any]) -> list[Record]:
        value: dict[str, Any] = {"success": metadata.get("status") == "success"}
        # Submitted logs contain no reason. The reason distinguishes a result that missed its
        # target from an interrupted attempt.
        if not value["success"]:
            value["reason"] = metadata.get("reason")
        return [_record("run_stop", value), ("run_final", "")]


def _v05_epoch(metadata: dict[str, Any]) -> int:
    """Returns the epoch number of v0.5, which counts from 0; MLLOG counts from 1."""
    return metadata["epoch_num"] - 1
