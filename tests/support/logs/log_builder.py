"""Builds realistic logs for tests: records in the documented order, to be broken at will."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable

from compliance.logs.keys import TAGS
from compliance.tracks import load_track

Record = dict[str, Any]
START_MS = 1_760_000_000_000
# Text as a run's console output has it, between and before the records.
NOISE = "2025-10-09 08:53:20 INFO  epoch 50%|█████     | 12/24\r"


class _Writer:
    def __init__(self, start_ms: int) -> None:
        self.records: list[Record] = []
        self.now = start_ms

    def __call__(self, key: str, value: Any = None, **metadata: Any) -> None:
        self.now += 7
        self.records.append({
            "namespace": "", "time_ms": self.now, "event_type": TAGS[key].event_type, "key": key,
            "value": value, "metadata": {"file": "run.py", "lineno": 10, **metadata}})

    def wait(self, ms: int) -> None:
        self.now += ms


def good_log(track_name: str = "ml-100k", epochs: int = 3, seed: int = 1, converged: bool = True,
             start_ms: int = START_MS, epoch_ms: int = 1000, division: str = "closed",
             reason: str | None = None) -> list[Record]:
    """The records of one valid run: a success, or aborted at its last epoch."""
    track, log = load_track(track_name), _Writer(start_ms)
    _setup(log, track, seed, division)
    log("run_start", wall_time_ms=log.now + 7)
    _data(log, track)
    target = track.target or 0.5
    users = track.dataset.num_users
    reached = -(-int(target * users * 1_000_000) // 1_000_000) + 2  # hits that reach the target
    for epoch in range(1, epochs + 1):
        last = epoch == epochs and converged
        _epoch(log, track, epoch, reached if last else max(reached - 5 * (epochs + 1 - epoch), 1),
               epoch_ms)
    log("train_neg_gen_start", epoch_num=epochs + 1)
    log("train_neg_gen_stop", epoch_num=epochs + 1, status="cancelled")
    log("run_stop", status="success" if converged else "aborted", epoch_num=epochs,
        reason=reason or ("target" if converged else "epoch_cap"), wall_time_ms=log.now + 7)
    return log.records


def _setup(log: _Writer, track: Any, seed: int, division: str) -> None:
    hyper, model = track.hyperparameters, track.model
    log("submission_benchmark", "ncf")
    log("submission_org", "test")
    log("submission_division", division)
    log("submission_status", "onprem")
    log("submission_platform", "laptop")
    log("track", track.name)
    log("seed", seed)
    log("cache_clear", True, reason="dropped")
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


def _data(log: _Writer, track: Any) -> None:
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
    log("eval_neg_gen_stop", masked_duplicates=17)
    log("train_neg_gen_start", epoch_num=1)


def _epoch(log: _Writer, track: Any, epoch: int, hits: int, epoch_ms: int) -> None:
    users = track.dataset.num_users
    if epoch == 1:
        log("train_neg_gen_stop", epoch_num=1, status="used")
    log("epoch_start", epoch_num=epoch)
    begun = log.now
    if epoch > 1:  # as the background thread writes them: within the epoch before or this one
        log("train_neg_gen_start", epoch_num=epoch)
        log("train_neg_gen_stop", epoch_num=epoch, status="used")
    log.wait(epoch_ms)
    log("epoch_stop", epoch_num=epoch, steps=-(-track.train_samples // track.hyperparameters.batch_size), loss=0.4)
    trained = log.now
    log("eval_start", epoch_num=epoch)
    log("eval_accuracy", round(hits / users, 15), epoch_num=epoch, samples_count=track.eval_samples)
    log("eval_ndcg", 0.5 * hits / users, epoch_num=epoch)
    log("eval_stop", epoch_num=epoch, hits=hits)
    train_s, eval_s = (trained - begun) / 1000, (log.now - trained) / 1000
    log("tracked_stats", {"throughput": track.train_samples / train_s,
                          "eval_throughput": track.eval_samples / eval_s, "loss": 0.4,
                          "train_seconds": train_s, "eval_seconds": eval_s}, epoch_num=epoch)


def at(records: list[Record], key: str, which: int = 0) -> int:
    """Index of a record; its line in the file is one more."""
    found = [i for i, r in enumerate(records) if r["key"] == key]
    return found[which]


def line_of(record: Record) -> str:
    """The record as mllog writes it."""
    return ":::MLLOG " + json.dumps(record)


def write_log(path: Path, records: list[Record]) -> Path:
    """One record a line, from line 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line_of(r) + "\n" for r in records), encoding="utf-8")
    return path


Change = Callable[[list[Record]], "int | None"]


def _set(key: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = at(records, key, which)
        records[index]["value"] = value
        return index + 1
    return change


def _meta(key: str, name: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = at(records, key, which)
        records[index]["metadata"][name] = value
        return index + 1
    return change


def _drop(key: str, which: int = 0) -> Change:
    def change(records: list[Record]) -> None:
        del records[at(records, key, which)]
    return change


def _twice(key: str, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = at(records, key, which)
        records.insert(index + 1, copy.deepcopy(records[index]))
        return index + 2
    return change


def _time(key: str, value: Any, which: int = 0) -> Change:
    def change(records: list[Record]) -> int:
        index = at(records, key, which)
        records[index]["time_ms"] = value
        return index + 1
    return change


def _swap(first: str, second: str) -> Change:
    """The content of two records changes places; times stay."""
    def change(records: list[Record]) -> None:
        i, j = at(records, first), at(records, second)
        records[i], records[j] = records[j], records[i]
        records[i]["time_ms"], records[j]["time_ms"] = records[j]["time_ms"], records[i]["time_ms"]
    return change


def insert(after: str, key: str, value: Any, **metadata: Any) -> Change:
    """A record more, behind the first of another key and at its time."""
    def change(records: list[Record]) -> int:
        index = at(records, after) + 1
        records.insert(index, {**copy.deepcopy(records[index - 1]), "key": key, "value": value,
                               "event_type": TAGS[key].event_type, "metadata": metadata})
        return index + 1
    return change


def set_batch_size(records: list[Record], value: int) -> None:
    """Another batch size, with the steps that it takes."""
    records[at(records, "global_batch_size")]["value"] = value
    examples = records[at(records, "train_samples")]["value"]
    for record in records:
        if record["key"] == "epoch_stop":
            record["metadata"]["steps"] = -(-examples // value)


def _epoch_removed(records: list[Record]) -> None:
    records[:] = [r for r in records if r["metadata"].get("epoch_num") != 2]


def _digit(records: list[Record]) -> int:
    """One digit of the last accuracy changed, as by hand: still above the target."""
    index = at(records, "eval_accuracy", -1)
    records[index]["value"] = float(f"{records[index]['value']:.17g}"[:5] + "9876")
    return index + 1


def _aborted(records: list[Record]) -> int:
    """run_stop says aborted; the value that contradicts it is the last accuracy."""
    _meta("run_stop", "status", "aborted")(records)
    return at(records, "eval_accuracy", -1) + 1


# name -> (change, rule that must fire; its line is what the change returns, None: not told)
BAD_LOGS: dict[str, tuple[Change, str]] = {
    "no run_start": (_drop("run_start"), "NCF-RUN-START"),
    "two run_start": (_twice("run_start"), "NCF-RUN-START"),
    "no run_stop": (_drop("run_stop"), "NCF-RUN-STOP"),
    "two run_stop": (_twice("run_stop"), "NCF-RUN-STOP"),
    "stop before start": (_swap("run_start", "run_stop"), "NCF-ORDER"),
    "run before init": (_swap("init_stop", "run_start"), "NCF-ORDER"),
    "no init_start": (_drop("init_start"), "NCF-INIT-START"),
    "no seed": (_drop("seed"), "NCF-SEED"),
    "seed is text": (_set("seed", "1"), "NCF-SEED"),
    "division unknown": (_set("submission_division", "../closed"), "NCF-DIVISION"),
    "benchmark missing": (_drop("submission_benchmark"), "NCF-BENCHMARK"),
    "other benchmark": (_set("submission_benchmark", "dlrm"), "NCF-BENCHMARK"),
    "track is a path": (_set("track", "/etc/passwd"), "NCF-TRACK"),
    "track is open": (_set("track", "ml-20m-synthetic"), "NCF-TRACK"),
    "cache_clear missing": (_drop("cache_clear"), "NCF-CACHE-CLEAR"),
    "time infinite": (_time("epoch_stop", 1e999), "NCF-TIME"),
    "time is text": (_time("epoch_stop", "1760000001000"), "NCF-TIME"),
    "time backward": (_time("epoch_stop", START_MS), "NCF-TIME-BACKWARD"),
    "accuracy is text": (_set("eval_accuracy", "0.3"), "NCF-ACCURACY"),
    "accuracy is true": (_set("eval_accuracy", True, -1), "NCF-ACCURACY"),
    "accuracy is null": (_set("eval_accuracy", None, -1), "NCF-ACCURACY"),
    "accuracy above 1": (_set("eval_accuracy", 1.5, -1), "NCF-ACCURACY"),
    "a digit of the last accuracy": (_digit, "NCF-ACCURACY-HITS"),
    "last accuracy below target": (_set("eval_accuracy", 0.01, -1), "NCF-SUCCESS"),
    "target reached earlier": (_set("eval_accuracy", 0.99, 0), "NCF-TARGET-EARLIER"),
    "aborted that reached": (_aborted, "NCF-ABORTED"),
    "status unknown": (_meta("run_stop", "status", "ok"), "NCF-RUN-STATUS"),
    "stop names another epoch": (_meta("run_stop", "epoch_num", 7), "NCF-RUN-STOP-EPOCH"),
    "target edited down": (_set("eval_target", 0.01), "NCF-TARGET"),
    "target missing": (_drop("eval_target"), "NCF-TARGET"),
    "an epoch removed": (_epoch_removed, "NCF-EPOCHS"),
    "an evaluation removed": (_drop("eval_accuracy", 1), "NCF-PER-EPOCH"),
    "epoch twice": (_meta("epoch_start", "epoch_num", 1, 1), "NCF-EPOCHS"),
    "epoch_num is text": (_meta("epoch_start", "epoch_num", "2", 1), "NCF-EPOCHS"),
    "epoch never ends": (_drop("epoch_stop", 1), "NCF-NESTING"),
    "eval_stop without start": (_drop("eval_start", 1), "NCF-NESTING"),
    "no tracked_stats": (_drop("tracked_stats", 0), "NCF-TRACKED-STATS"),
    "throughput zero": (_set("tracked_stats", {"throughput": 0, "eval_throughput": 1.0}),
                        "NCF-THROUGHPUT"),
    "no negatives drawn": (_drop("train_neg_gen_start", 1), "NCF-NEGATIVES-PER-EPOCH"),
    "negatives before the clock": (insert("train_order", "negatives_drawn", "before_clock"),
                                   "NCF-NEGATIVES-IN-RUN"),
    "negatives drawn at a time unknown": (insert("train_order", "negatives_drawn", "earlier"),
                                          "NCF-NEGATIVES-DRAWN"),
    "shards prepared": (insert("cache_clear", "configuration", {"input": "shards"}), "NCF-INPUT"),
    "not every user": (_meta("eval_accuracy", "samples_count", 1000), "NCF-EVAL-COVERAGE"),
    "wrong train_samples": (_set("train_samples", 12345), "NCF-TRAIN-SAMPLES"),
    "wrong steps": (_meta("epoch_stop", "steps", 3, -1), "NCF-STEPS-IMPLIED"),
    "wrong eval_samples": (_set("eval_samples", 12345), "NCF-EVAL-SAMPLES"),
    "fewer negatives": (_set("eval_num_negatives", 99), "NCF-EVAL-NEGATIVES"),
    "fewer users": (_set("eval_num_users", 900), "NCF-EVAL-NUM-USERS"),
    "top k": (_set("eval_top_k", 20), "NCF-TOP-K"),
    "train negatives": (_set("train_num_negatives", 1), "NCF-TRAIN-NEGATIVES"),
    "model smaller": (_set("model_mf_dim", 4), "NCF-MF-DIM"),
    "layers smaller": (_set("model_mlp_layer_sizes", [32, 16]), "NCF-MLP-LAYERS"),
    "optimizer": (_set("opt_name", "sgd"), "NCF-OPT-NAME"),
    "loss": (_set("model_loss_fn", "hinge"), "NCF-LOSS"),
    "min ratings": (_set("dataset_min_ratings", 5), "NCF-MIN-RATINGS"),
    "other data": (_set("dataset_num_items", 1000), "NCF-NUM-ITEMS"),
    "batch size missing": (_drop("global_batch_size"), "NCF-BATCH-SIZE"),
    "learning rate is text": (_set("opt_base_learning_rate", "0.002"), "NCF-LEARNING-RATE"),
    "evaluated before the clock": (_swap("dataset_digest", "engine"), "NCF-INSIDE-RUN"),
}


def bad_log(name: str) -> tuple[list[Record], str, int | None]:
    """(records, rule, line or None) of a case of BAD_LOGS."""
    records = good_log()
    change, rule = BAD_LOGS[name]
    return records, rule, change(records)
