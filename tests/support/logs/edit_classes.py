"""Classes of single edits that leave a log valid, each with its reason.

`class_of` returns the class of an edit. An edit without a class is a gap in the rules, or needs a
new class with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

from tests.support.logs.log_builder import CONFIGURATION_FIELDS, Record
from tests.support.logs.single_edits import Edit, get_field

# Settings and counts. Rules compare them at any position in the log.
FACTS = {
    "submission_benchmark", "submission_org", "submission_division", "submission_status",
    "submission_platform", "seed", "attempt", "source", "versions", "configuration",
    "clock_source", "engine", "precision", "device", "global_batch_size", "eval_batch_size",
    "opt_name", "opt_base_learning_rate", "opt_adam_beta_1", "opt_adam_beta_2",
    "opt_adam_epsilon", "model_loss_fn", "model_mf_dim", "model_mlp_layer_sizes", "model_l2_mf",
    "model_l2_mlp", "dataset_name", "dataset_min_ratings", "dataset_num_items",
    "dataset_num_positives", "train_num_negatives", "train_negatives_with_replacement",
    "train_sampler", "train_order", "eval_num_negatives", "eval_negatives_with_replacement",
    "data_digests"}
# Rules compare epochs with these records, which must precede the first epoch.
COMPARED_FACTS = {"eval_target", "eval_num_users", "eval_samples", "train_samples", "eval_top_k",
                  "dataset_num_users"}
INTERVALS = {f"{name}_{end}" for name in ("init", "run", "epoch", "eval", "eval_neg_gen",
                                          "train_neg_gen") for end in ("start", "stop")}
# Descriptive fields whose content no other record repeats.
DESCRIPTIONS = {
    ("submission_platform", "value"), ("submission_status", "value"), ("seed", "value"),
    ("seed", "metadata.deterministic"), ("train_sampler", "value"), ("eval_batch_size", "value"),
    ("cache_clear", "metadata.reason"), ("clock_source", "value"), ("source", "value"),
    ("source", "metadata.commit"), ("source", "metadata.dirty"), ("versions", "value"),
    ("clock_source", "metadata.durations"), ("clock_source", "metadata.dates"),
    ("clock_source", "metadata.resolution_s"), ("device", "metadata.num_devices"),
    ("device", "metadata.name"), ("device", "metadata.threads"),
    ("train_neg_gen_stop", "metadata.status"), ("run_stop", "metadata.reason"),
    ("train_neg_gen_start", "metadata.negatives")}
OPTIONAL_FIELDS = {
    ("epoch_stop", "metadata.loss"), ("epoch_stop", "metadata.steps"),
    ("eval_neg_gen_stop", "metadata.masked_duplicates"), ("tracked_stats", "value.loss"),
    ("tracked_stats", "value.train_seconds"), ("tracked_stats", "value.eval_seconds"),
    *DESCRIPTIONS}
# Members of configuration that a closed log must have.
COMPLETE_FIELDS = set(CONFIGURATION_FIELDS.values()) - {"device"}
OPEN_SETTINGS = {
    "dataset_name", "dataset_digest", "dataset_min_ratings", "dataset_num_items",
    "eval_negatives_with_replacement", "eval_top_k", "model_loss_fn", "model_mf_dim",
    "model_mlp_layer_sizes", "model_l2_mf", "model_l2_mlp",
    "train_negatives_with_replacement", "train_order", "cache_clear"}


@dataclass(frozen=True)
class Passing:
    """An edited log that passes.

    Attributes:
      edit: The edit.
      records: The records of the log before the edit.
      new_warnings: Warnings that the log before the edit did not have.
      division: closed or open.
      is_aborted: Whether the run ended before it reached its target.
    """

    edit: Edit
    records: list[Record]
    new_warnings: frozenset[str]
    division: str
    is_aborted: bool

    @property
    def old(self) -> Any:
        """The value of the field before the edit."""
        return get_field(self.records[self.edit.index], self.edit.field)


def _is_move(p: Passing) -> bool:
    return p.edit.kind in ("move", "move in time")


def _keeps_its_place(p: Passing) -> bool:
    """Whether the order after the move still meets every ordering rule."""
    if not _is_move(p):
        return False
    order = list(range(len(p.records)))
    order.insert(p.edit.new, order.pop(p.edit.index))
    place = {original: now for now, original in enumerate(order)}
    first: dict[Any, int] = {}  # first place of each key, and of each key within an epoch
    for original, record in enumerate(p.records):
        for name in (record["key"], (record["key"], record["metadata"].get("epoch_num"))):
            first[name] = min(place[original], first.get(name, len(order)))
    key, now = p.edit.key, place[p.edit.index]
    epoch = p.records[p.edit.index]["metadata"].get("epoch_num")

    def ascend(*names: Any) -> bool:
        places = [first[name] for name in names if name in first]
        return places == sorted(places)

    def in_run() -> bool:
        return first["run_start"] < now < first["run_stop"]

    if key in ("track", "cache_clear"):
        return now < first["run_start"]
    if key in COMPARED_FACTS:
        return first["init_start"] < now < first["epoch_start"]
    if key in ("init_start", "init_stop", "run_start", "run_stop"):
        return ascend("init_start", "init_stop", "run_start", "dataset_digest", "run_stop") \
            and in_run() is (False)
    if key in ("eval_neg_gen_start", "eval_neg_gen_stop"):
        return in_run() and ascend("eval_neg_gen_start", "eval_neg_gen_stop", "eval_start")
    if key in ("train_neg_gen_start", "train_neg_gen_stop"):
        return in_run() and ascend(("train_neg_gen_start", epoch), ("train_neg_gen_stop", epoch),
                                   ("epoch_stop", epoch))
    if key in ("dataset_digest", "tracked_stats"):
        return in_run()
    return in_run() and ascend(("epoch_start", epoch), ("epoch_stop", epoch),
                               ("eval_start", epoch), ("eval_stop", epoch)) \
        and ascend(("eval_start", epoch), ("eval_accuracy", epoch)) \
        and ascend(("eval_start", epoch), ("eval_ndcg", epoch)) \
        and ascend(("eval_stop", epoch), ("epoch_start", (epoch or 0) + 1))


def _stays_between_its_neighbours(p: Passing) -> bool:
    """Whether a new time is between the times of the previous and the next record."""
    if (p.edit.kind, p.edit.field) != ("replace", "time_ms"):
        return False
    before = p.records[p.edit.index - 1]["time_ms"] if p.edit.index else 0
    after = p.records[p.edit.index + 1]["time_ms"] if p.edit.index + 1 < len(p.records) \
        else p.edit.new
    return before <= p.edit.new <= after


def _is_near(p: Passing) -> bool:
    """Whether the change of a measured value is within the tolerance of its rule."""
    key, field, new = p.edit.key, p.edit.field, p.edit.new
    if p.edit.kind != "replace" or isinstance(new, (bool, str)):
        return False
    if field == "metadata.wall_time_ms":
        return new is not None and abs(new - p.old) <= 1000
    if field == "metadata.masked_duplicates":
        return abs(new - p.old) <= 50_000
    if key == "eval_ndcg" and field == "value":
        return 0.289 * 2 * p.old <= new <= 2 * p.old + 1e-9  # for a log with NDCG = HR / 2
    if key == "eval_accuracy" and field == "value":
        return abs(new - p.old) < 1e-15  # the quotient, rounded or not
    if key != "tracked_stats" or field == "value.loss":
        return False
    if field == "value":  # the value of another epoch with similar seconds
        return all(abs(new[name] - p.old[name]) < 0.05 * p.old[name] + 0.1
                   for name in ("train_seconds", "eval_seconds"))
    return abs(new / p.old - 1) <= 0.00101


def _is_equal(p: Passing) -> bool:
    numbers = (int, float)
    return p.edit.kind == "replace" and (
        isinstance(p.edit.new, numbers) and isinstance(p.old, numbers)
        and not isinstance(p.edit.new, bool) and p.edit.new == p.old
        or isinstance(p.edit.new, list) and p.edit.new == p.old)


def _is_another_setting(p: Passing) -> bool:
    part, _, name = p.edit.field.partition(".")
    return p.edit.key == "configuration" and part == "value" and bool(name) \
        and (name not in COMPLETE_FIELDS or p.division == "open")


# (name, reason, whether an edit belongs to the class); the first matching class counts.
CLASSES: list[tuple[str, str, Callable[[Passing], bool]]] = [
    ("a warning", "The edit causes a new warning; no verdict or score depends on the "
     "information that is now missing or wrong.", lambda p: bool(p.new_warnings)),
    ("a setting or count moved", "Settings and counts are compared with the track and with each "
     "other at any position in the log.", lambda p: _is_move(p) and (
         p.edit.key in FACTS or p.division == "open" and p.edit.key == "track")),
    ("a move that keeps the order", "Every order that a rule requires is kept.",
     _keeps_its_place),
    ("a time between its neighbours", "Times stay in order, the run is no shorter than its epochs, "
     "and the clocks agree within 1 s.", _stays_between_its_neighbours),
    ("a measured value within its tolerance", "Rates agree with seconds within 0.1%, seconds with "
     "intervals within 5% and 0.1 s, and hit rates with hits to 15 decimals; NDCG is within the "
     "bounds of the hit rate, the clocks agree within 1 s, and the share of masked candidates is "
     "within 0.05 of that of uniform draws.", _is_near),
    ("an equal number", "4096 and 4096.0 are the same number.", _is_equal),
    ("a value in an interval record", "Interval records have no value; a value in one has no "
     "meaning.", lambda p: p.edit.key in INTERVALS and p.edit.field == "value"),
    ("a description", "Names, versions, digests and seeds are recorded once; no other record can "
     "contradict them.", lambda p: p.edit.kind == "replace" and (
         (p.edit.key, p.edit.field) in DESCRIPTIONS or p.edit.key == "versions"
         or p.edit.key == "data_digests")),
    ("a setting recorded once", "No other record repeats this member of configuration.",
     _is_another_setting),
    ("an optional field left out", "Other programs do not log it; without it, the rule has "
     "nothing to compare.", lambda p: p.edit.kind == "drop" and (
         (p.edit.key, p.edit.field) in OPTIONAL_FIELDS or p.edit.key in ("versions",
                                                                       "data_digests"))),
    ("an optional record left out", "A single log needs no chain, versions or digests; in a set, "
     "either all logs have them or none.", lambda p: p.edit.kind == "delete" and (
         p.edit.key in ("attempt", "versions", "data_digests")
         or p.division == "open" and p.edit.key == "configuration")),
    ("a repeated description", "A second, equal versions record changes nothing.",
     lambda p: p.edit.kind == "double" and p.edit.key == "versions"),
    ("a member of the attempt", "The chain of attempts is checked with the other logs of the set.",
     lambda p: p.edit.key == "attempt" and p.edit.kind == "replace"),
    ("a setting of the open division", "The open division does not fix it.",
     lambda p: p.division == "open" and p.edit.kind == "replace" and (
         p.edit.key in OPEN_SETTINGS or p.edit.key == "configuration")),
    ("the last epoch of an aborted run", "An aborted run may lack its last records; it did not "
     "converge in either case.", lambda p: p.is_aborted and (
         p.edit.kind == "delete" and p.edit.key in ("eval_accuracy", "eval_ndcg", "tracked_stats",
                                                    "train_neg_gen_stop")
         or p.edit.key == "run_stop" and p.edit.field == "metadata.epoch_num")),
]


def class_of(passing: Passing) -> str | None:
    """Returns the name of the first class that an edit belongs to, or None."""
    return next((name for name, _, belongs in CLASSES if belongs(passing)), None)


# The same for the v0.5 dialect, whose original checker tests presence and not values.
V05_LEVEL_2_ONCE = {"run_start", "run_stop", "run_final"}
V05_CLASSES: list[tuple[str, str, Callable[[Edit], bool]]] = [
    ("v0.5: a value", "Neither level checks values, as in the original checker; `score` refuses "
     "another target, a time that is not positive, and the same run twice.",
     lambda e: e.field == "value" or e.field.startswith("value.")),
    ("v0.5: a time", "Neither level checks times.",
     lambda e: e.field == "time_ms"),
    ("v0.5: a record moved", "Only run_start, run_stop and run_final have an order.",
     lambda e: e.kind == "move"),
    ("v0.5: a record twice", "Only run_start, run_stop and run_final must occur exactly once.",
     lambda e: e.kind == "double" and e.key not in V05_LEVEL_2_ONCE),
    ("v0.5: a record left out", "One record of a tag is enough, and some tags are not required.",
     lambda e: e.kind == "delete" and e.key not in V05_LEVEL_2_ONCE),
]


def v05_class_of(edit: Edit) -> str | None:
    """Returns the name of the first class of V05_CLASSES that an edit belongs to, or None."""
    return next((name for name, _, belongs in V05_CLASSES if belongs(edit)), None)
