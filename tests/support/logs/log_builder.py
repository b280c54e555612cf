"""Builds realistic logs for tests: records in the documented order, and changes that break them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable

from compliance.logs.keys import LOG_KEYS
from compliance.tracks import load_track

Record = dict[str, Any]
START_MS = 1_760_000_000_000


class _Writer:
    """Collects records that are 7 ms apart."""

    def __init__(self, start_ms: int) -> None:
        self.records: list[Record] = []
        self.now = start_ms

    def __call__(self, key: str, value: Any = None, **metadata: Any) -> None:
        self.now += 7
        self.records.append({
            "namespace": "", "time_ms": self.now, "event_type": LOG_KEYS[key].event_type,
            "key": key, "value": value, "metadata": {"file": "run.py", "lineno": 10, **metadata}})

    def wait(self, ms: int) -> None:
        self.now += ms


def good_log(track_name: str = "ml-100k", epochs: int = 3, seed: int = 1, converged: bool = True,
             start_ms: int = START_MS, epoch_ms: int = 1000, division: str = "closed",
             reason: str | None = None, max_epochs: int | None = None) -> list[Record]:
    """Builds the records of one valid run: a success, or a run aborted at its last epoch.

    Args:
      track_name: The built-in track whose values are logged.
      epochs: How many epochs are trained and evaluated.
      seed: The run's seed.
      converged: Whether the last epoch reaches the target.
      start_ms: The time before the first record, in ms since 1970.
      epoch_ms: The duration of each epoch's training.
      division: closed or open.
      reason: The reason in run_stop; None: target or epoch_cap.
      max_epochs: The cap in the configuration; None: the track's, or the epochs of a run that
        does not converge.
    """
    track, log = load_track(track_name), _Writer(start_ms)
    cap = max_epochs or (track.max_epochs if converged or reason else epochs)
    _log_setup(log, track, seed, division, cap)
    log("run_start", wall_time_ms=log.now + 7)
    _log_data(log, track)
    target = track.target or 0.5
    users = track.dataset.num_users
    # Hits that reach the target: rounded up, plus two.
    reached = -(-int(target * users * 1_000_000) // 1_000_000) + 2
    for epoch in range(1, epochs + 1):
        reaches = epoch == epochs and converged
        # The earlier epochs approach the target in steps that depend on the seed.
        step = 5 + seed // 5 % 7
        hits = reached if reaches else max(reached - step * (epochs + 1 - epoch) - seed % 97, 1)
        # Losses depend on the seed, and seconds depend on it by some microseconds.
        _log_epoch(log, track, epoch, hits, epoch_ms, loss=0.4 + 1.23456789e-4 * seed, jitter=1e-6 * seed)
    log("train_neg_gen_start", epoch_num=epochs + 1)
    log("train_neg_gen_stop", epoch_num=epochs + 1, status="cancelled")
    log("run_stop", status="success" if converged else "aborted", epoch_num=epochs,
        reason=reason or ("target" if converged else "epoch_cap"), wall_time_ms=log.now + 7)
    return log.records


def _log_setup(log: _Writer, track: Any, seed: int, division: str, max_epochs: int) -> None:
    hyper, model = track.hyperparameters, track.model
    log("submission_benchmark", "ncf")
    log("submission_org", "test")
    log("submission_division", division)
    log("submission_status", "onprem")
    log("submission_platform", "laptop")
    log("track", track.name)
    log("seed", seed)
    log("cache_clear", True, reason="dropped")
    log("source", "ab" * 32, commit="cd" * 20, dirty=False)
    log("versions", {"python": "3.11.7"})
    log("configuration", _configuration(track, division, max_epochs))
    log("clock_source", "tsc", durations="CLOCK_MONOTONIC", dates="CLOCK_REALTIME")
    log("init_start")
    log("engine", "reference")
    log("precision", "float32")
    log("device", "cpu", num_devices=1)
    log("global_batch_size", hyper.batch_size)
    log("eval_batch_size", hyper.eval_batch_size)
    log("opt_name", hyper.optimizer)
    log("opt_base_learning_rate", hyper.learning_rate)
    log("opt_adam_beta_1", hyper.beta1)
    log("opt_adam_beta_2", hyper.beta2)
    log("opt_adam_epsilon", hyper.epsilon)
    log("model_loss_fn", "binary_cross_entropy")
    log("model_mf_dim", model.mf_dim)
    log("model_mlp_layer_sizes", list(model.mlp_layers))
    log("model_l2_mf", model.l2_mf)
    log("model_l2_mlp", list(model.l2_mlp))
    log("init_stop")


def _configuration(track: Any, division: str, max_epochs: int) -> dict[str, Any]:
    """The settings of the run, which other records repeat."""
    hyper = track.hyperparameters
    return {"track_name": track.name, "division": division, "org": "test",
            "target": track.target, "batch_size": hyper.batch_size,
            "learning_rate": hyper.learning_rate, "beta1": hyper.beta1, "beta2": hyper.beta2,
            "epsilon": hyper.epsilon, "optimizer": hyper.optimizer, "precision": "float32",
            "engine": "reference", "base_seed": None, "input": "generated", "device": "cpu",
            "max_epochs": max_epochs}


def _masked_candidates(track: Any) -> int:
    """The expected number of masked evaluation candidates under uniform draws."""
    data, draws = track.dataset, track.evaluation.negatives
    items = data.num_items - data.num_positives / data.num_users
    distinct = sum((1 - 1 / items) ** i for i in range(draws)) * (1 - 1 / items)
    return round(data.num_users * (draws - distinct))


def _log_data(log: _Writer, track: Any) -> None:
    data, evaluation = track.dataset, track.evaluation
    log("dataset_name", data.name)
    log("dataset_digest", data.split_digest or "0" * 64)
    log("dataset_min_ratings", data.min_ratings)
    log("dataset_num_users", data.num_users)
    log("dataset_num_items", data.num_items)
    log("dataset_num_positives", data.num_positives)
    log("eval_target", track.target)
    log("train_samples", track.train_samples)
    log("eval_samples", track.eval_samples)
    log("train_num_negatives", track.sampling.train_negatives)
    log("train_negatives_with_replacement", True)
    log("train_sampler", "complement_table")
    log("train_order", "uniform_permutation")
    log("eval_num_users", data.num_users)
    log("eval_num_negatives", evaluation.negatives)
    log("eval_negatives_with_replacement", not evaluation.given)
    log("eval_top_k", evaluation.top_k)
    log("eval_neg_gen_start")
    log("eval_neg_gen_stop", masked_duplicates=_masked_candidates(track))
    log("train_neg_gen_start", epoch_num=1)


def _log_epoch(
    log: _Writer, track: Any, epoch: int, hits: int, epoch_ms: int, loss: float, jitter: float
) -> None:
    users = track.dataset.num_users
    if epoch == 1:
        log("train_neg_gen_stop", epoch_num=1, status="used")
    log("epoch_start", epoch_num=epoch)
    begun = log.now
    if epoch > 1:  # the background thread writes these during the previous epoch or this one
        log("train_neg_gen_start", epoch_num=epoch)
        log("train_neg_gen_stop", epoch_num=epoch, status="used")
    log.wait(epoch_ms)
    steps = -(-track.train_samples // track.hyperparameters.batch_size)
    log("epoch_stop", epoch_num=epoch, steps=steps, loss=loss)
    trained = log.now
    log("eval_start", epoch_num=epoch)
    log("eval_accuracy", round(hits / users, 15), epoch_num=epoch, samples_count=track.eval_samples)
    log("eval_ndcg", 0.5 * hits / users + 1e-3 * jitter, epoch_num=epoch)
    log("eval_stop", epoch_num=epoch, hits=hits)
    train_s, eval_s = (trained - begun) / 1000 + jitter, (log.now - trained) / 1000 + jitter
    log("tracked_stats", {"throughput": track.train_samples / train_s,
                          "eval_throughput": track.eval_samples / eval_s, "loss": loss,
                          "train_seconds": train_s, "eval_seconds": eval_s}, epoch_num=epoch)


def index_of(records: list[Record], key: str, which: int = 0) -> int:
    """Returns the index of a record; its line in the file is one more.

    Args:
      records: The log.
      key: The record's key.
      which: Its number among the records of that key; -1 is the last.
    """
    found = [i for i, r in enumerate(records) if r["key"] == key]
    return found[which]


def line_of(record: Record) -> str:
    """Returns the line of a record as mllog writes it, without the line end."""
    return ":::MLLOG " + json.dumps(record)


def write_log(path: Path, records: list[Record]) -> Path:
    """Writes a log with one record per line, from line 1; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line_of(r) + "\n" for r in records), encoding="utf-8")
    return path


# Changes a log in place; returns the line of the violation, or None if it is not checked.
Change = Callable[[list[Record]], "int | None"]


def _set_value(key: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = index_of(records, key, which)
        records[index]["value"] = value
        return index + 1
    return change


def _set_metadata(key: str, name: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = index_of(records, key, which)
        records[index]["metadata"][name] = value
        return index + 1
    return change


def _set_member(key: str, name: str, value: Any) -> Change:
    """Sets a member of an object value."""
    def change(records: list[Record]) -> int:
        index = index_of(records, key)
        records[index]["value"][name] = value
        return index + 1
    return change


def _remove(key: str, which: int = 0) -> Change:
    def change(records: list[Record]) -> None:
        del records[index_of(records, key, which)]
    return change


def _duplicate(key: str, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = index_of(records, key, which)
        records.insert(index + 1, copy.deepcopy(records[index]))
        return index + 2
    return change


def _set_time(key: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = index_of(records, key, which)
        records[index]["time_ms"] = value
        return index + 1
    return change


def _exchange(first: str, second: str) -> Change:
    """Swaps the content of two records; the times stay in order."""
    def change(records: list[Record]) -> None:
        i, j = index_of(records, first), index_of(records, second)
        records[i], records[j] = records[j], records[i]
        records[i]["time_ms"], records[j]["time_ms"] = records[j]["time_ms"], records[i]["time_ms"]
    return change


def insert(after: str, key: str, value: Any, **metadata: Any) -> Change:
    """Inserts a record after the first record of another key, with the same time."""
    def change(records: list[Record]) -> int:
        index = index_of(records, after) + 1
        records.insert(index, {**copy.deepcopy(records[index - 1]), "key": key, "value": value,
                               "event_type": LOG_KEYS[key].event_type, "metadata": metadata})
        return index + 1
    return change


# The member of `configuration` that repeats the record of a key.
CONFIGURATION_FIELDS = {
    "track": "track_name", "submission_division": "division", "submission_org": "org",
    "eval_target": "target", "global_batch_size": "batch_size",
    "opt_base_learning_rate": "learning_rate", "opt_adam_beta_1": "beta1",
    "opt_adam_beta_2": "beta2", "opt_adam_epsilon": "epsilon", "opt_name": "optimizer",
    "precision": "precision", "engine": "engine", "device": "device"}


def set_setting(records: list[Record], key: str, value: Any) -> None:
    """Sets the value of a record and the member of `configuration` that repeats it."""
    records[index_of(records, key)]["value"] = value
    if key in CONFIGURATION_FIELDS:
        records[index_of(records, "configuration")]["value"][CONFIGURATION_FIELDS[key]] = value


def set_batch_size(records: list[Record], value: int) -> None:
    """Sets another batch size and the resulting number of steps."""
    set_setting(records, "global_batch_size", value)
    examples = records[index_of(records, "train_samples")]["value"]
    for record in records:
        if record["key"] == "epoch_stop":
            record["metadata"]["steps"] = -(-examples // value)


def _remove_epoch_2(records: list[Record]) -> None:
    records[:] = [r for r in records if r["metadata"].get("epoch_num") != 2]


def _change_a_digit(records: list[Record]) -> int:
    """Changes digits of the last accuracy by hand; it stays above the target."""
    index = index_of(records, "eval_accuracy", -1)
    records[index]["value"] = float(f"{records[index]['value']:.17g}"[:5] + "9876")
    return index + 1


def _call_it_aborted(records: list[Record]) -> int:
    """Sets the status in run_stop to aborted, which contradicts the last accuracy."""
    _set_metadata("run_stop", "status", "aborted")(records)
    return index_of(records, "eval_accuracy", -1) + 1


# By name: (change, id of the rule that the changed log must break).
BAD_LOGS: dict[str, tuple[Change, str]] = {
    "no run_start": (_remove("run_start"), "NCF-RUN-START"),
    "two run_start": (_duplicate("run_start"), "NCF-RUN-START"),
    "no run_stop": (_remove("run_stop"), "NCF-RUN-STOP"),
    "two run_stop": (_duplicate("run_stop"), "NCF-RUN-STOP"),
    "stop before start": (_exchange("run_start", "run_stop"), "NCF-ORDER"),
    "run before init": (_exchange("init_stop", "run_start"), "NCF-ORDER"),
    "no init_start": (_remove("init_start"), "NCF-INIT-START"),
    "no seed": (_remove("seed"), "NCF-SEED"),
    "seed is text": (_set_value("seed", "1"), "NCF-SEED"),
    "division unknown": (_set_value("submission_division", "../closed"), "NCF-DIVISION"),
    "benchmark missing": (_remove("submission_benchmark"), "NCF-BENCHMARK"),
    "other benchmark": (_set_value("submission_benchmark", "dlrm"), "NCF-BENCHMARK"),
    "track is a path": (_set_value("track", "/etc/passwd"), "NCF-TRACK"),
    "track is open": (_set_value("track", "ml-20m-synthetic"), "NCF-TRACK"),
    "cache_clear missing": (_remove("cache_clear"), "NCF-CACHE-CLEAR"),
    "time infinite": (_set_time("epoch_stop", 1e999), "NCF-TIME"),
    "time is text": (_set_time("epoch_stop", "1760000001000"), "NCF-TIME"),
    "time backward": (_set_time("epoch_stop", START_MS), "NCF-TIME-BACKWARD"),
    "accuracy is text": (_set_value("eval_accuracy", "0.3"), "NCF-ACCURACY"),
    "accuracy is true": (_set_value("eval_accuracy", True, -1), "NCF-ACCURACY"),
    "accuracy is null": (_set_value("eval_accuracy", None, -1), "NCF-ACCURACY"),
    "accuracy above 1": (_set_value("eval_accuracy", 1.5, -1), "NCF-ACCURACY"),
    "a digit of the last accuracy": (_change_a_digit, "NCF-ACCURACY-HITS"),
    "last accuracy below target": (_set_value("eval_accuracy", 0.01, -1), "NCF-SUCCESS"),
    "target reached earlier": (_set_value("eval_accuracy", 0.99, 0), "NCF-TARGET-EARLIER"),
    "aborted that reached": (_call_it_aborted, "NCF-ABORTED"),
    "status unknown": (_set_metadata("run_stop", "status", "ok"), "NCF-RUN-STATUS"),
    "stop names another epoch": (_set_metadata("run_stop", "epoch_num", 7), "NCF-RUN-STOP-EPOCH"),
    "target edited down": (_set_value("eval_target", 0.01), "NCF-TARGET"),
    "target missing": (_remove("eval_target"), "NCF-TARGET"),
    "an epoch removed": (_remove_epoch_2, "NCF-EPOCHS"),
    "an evaluation removed": (_remove("eval_accuracy", 1), "NCF-PER-EPOCH"),
    "epoch twice": (_set_metadata("epoch_start", "epoch_num", 1, 1), "NCF-EPOCHS"),
    "epoch_num is text": (_set_metadata("epoch_start", "epoch_num", "2", 1), "NCF-EPOCHS"),
    "epoch never ends": (_remove("epoch_stop", 1), "NCF-NESTING"),
    "eval_stop without start": (_remove("eval_start", 1), "NCF-NESTING"),
    "no tracked_stats": (_remove("tracked_stats", 0), "NCF-TRACKED-STATS"),
    "throughput zero": (_set_value("tracked_stats", {"throughput": 0, "eval_throughput": 1.0}),
                        "NCF-THROUGHPUT"),
    "no negatives drawn": (_remove("train_neg_gen_start", 1), "NCF-NEGATIVES-PER-EPOCH"),
    "negatives before the clock": (insert("train_order", "negatives_drawn", "before_clock"),
                                   "NCF-NEGATIVES-IN-RUN"),
    "negatives drawn at a time unknown": (insert("train_order", "negatives_drawn", "earlier"),
                                          "NCF-NEGATIVES-DRAWN"),
    "shards prepared": (_set_member("configuration", "input", "shards"), "NCF-INPUT"),
    "no configuration": (_remove("configuration"), "NCF-CONFIGURATION"),
    "an incomplete configuration": (_set_value("configuration", {"base_seed": None}),
                                    "NCF-CONFIGURATION-AGREES"),
    "caches cleared during the run": (_exchange("cache_clear", "train_order"),
                                      "NCF-CACHE-CLEAR-PLACE"),
    "too few masked candidates": (_set_metadata("eval_neg_gen_stop", "masked_duplicates", 17),
                                  "NCF-MASKED-SHARE"),
    "not every user": (_set_metadata("eval_accuracy", "samples_count", 1000), "NCF-EVAL-COVERAGE"),
    "wrong train_samples": (_set_value("train_samples", 12345), "NCF-TRAIN-SAMPLES"),
    "wrong steps": (_set_metadata("epoch_stop", "steps", 3, -1), "NCF-STEPS-IMPLIED"),
    "wrong eval_samples": (_set_value("eval_samples", 12345), "NCF-EVAL-SAMPLES"),
    "fewer negatives": (_set_value("eval_num_negatives", 99), "NCF-EVAL-NEGATIVES"),
    "fewer users": (_set_value("eval_num_users", 900), "NCF-EVAL-NUM-USERS"),
    "top k": (_set_value("eval_top_k", 20), "NCF-TOP-K"),
    "train negatives": (_set_value("train_num_negatives", 1), "NCF-TRAIN-NEGATIVES"),
    "model smaller": (_set_value("model_mf_dim", 4), "NCF-MF-DIM"),
    "layers smaller": (_set_value("model_mlp_layer_sizes", [32, 16]), "NCF-MLP-LAYERS"),
    "optimizer": (_set_value("opt_name", "sgd"), "NCF-OPT-NAME"),
    "loss": (_set_value("model_loss_fn", "hinge"), "NCF-LOSS"),
    "min ratings": (_set_value("dataset_min_ratings", 5), "NCF-MIN-RATINGS"),
    "other data": (_set_value("dataset_num_items", 1000), "NCF-NUM-ITEMS"),
    "batch size missing": (_remove("global_batch_size"), "NCF-BATCH-SIZE"),
    "learning rate is text": (_set_value("opt_base_learning_rate", "0.002"), "NCF-LEARNING-RATE"),
    "evaluated before the clock": (_exchange("dataset_digest", "engine"), "NCF-INSIDE-RUN"),
}


def bad_log(name: str) -> tuple[list[Record], str, int | None]:
    """Builds a case of BAD_LOGS.

    Returns:
      (records, id of the rule that they break, line of the violation or None).
    """
    records = good_log()
    change, rule = BAD_LOGS[name]
    return records, rule, change(records)
