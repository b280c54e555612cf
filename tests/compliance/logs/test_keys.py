"""The list of log keys agrees with mlperf_logging, with the rules, and with itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlperf_logging.mllog import constants

from compliance.checking.ruleset import load_ruleset
from compliance.logs.keys import EVENT_TYPES, EXAMPLES, FIELDS, LOG_KEYS, V05_EXAMPLES, V05_TAGS
from compliance.report.log_page import MLLOG_TOKEN, example_log
from compliance.tracks import load_track

STANDARD = {name for name in vars(constants).values() if isinstance(name, str)}
EXPECTED_STANDARD = {
    "submission_benchmark", "submission_org", "submission_division", "submission_status",
    "submission_platform", "cache_clear", "init_start", "init_stop", "run_start", "run_stop",
    "epoch_start", "epoch_stop", "eval_start", "eval_stop", "eval_accuracy", "seed",
    "global_batch_size", "train_samples", "eval_samples", "opt_name", "opt_base_learning_rate",
    "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon"}


def test_every_key_has_a_meaning_of_one_line():
    for key in LOG_KEYS.values():
        assert key.meaning and "\n" not in key.meaning
        assert key.event_type in EVENT_TYPES.values()


def test_standard_keys_are_spelled_as_the_library_spells_them():
    assert EXPECTED_STANDARD <= set(LOG_KEYS)
    assert EXPECTED_STANDARD <= STANDARD


def test_intervals_come_in_pairs():
    starts = {name[:-6] for name, key in LOG_KEYS.items() if key.kind == "start"}
    stops = {name[:-5] for name, key in LOG_KEYS.items() if key.kind == "stop"}
    assert starts == stops
    assert all(k.endswith("_start") for k in LOG_KEYS if LOG_KEYS[k].kind == "start")


def test_the_four_stages_of_ncf_are_all_logged():
    stages = {key.stage for key in LOG_KEYS.values()}
    assert {"preprocessing", "sampling", "optimizer", "model", "evaluation"} <= stages


def test_rules_name_only_known_keys():
    for name, known in (("ncf-closed", LOG_KEYS), ("ncf-v0.5-l2", V05_TAGS)):
        for rule in load_ruleset(name).rules:
            params = rule.params
            keys = [params[k] for k in ("key", "as", "of", "after", "before", "stop", "users")
                    if k in params] + params.get("keys", [])
            keys += params.get("epoch", []) + params.get("begin", [])
            keys += [n if n.endswith(("_start", "_stop")) else f"{n}_start"
                     for n in params.get("intervals", [])]
            assert set(keys) <= set(known), rule.id


# --- examples ---------------------------------------------------------------------

TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "object": dict,
         "list": list, "none": type(None), "number or null": (float, type(None))}
# Keys whose values describe program and machine, with free member names.
FREE_NAMES = ("versions", "configuration")
# Stages whose records are the same in every run of a track with its own settings.
FIXED = ("optimizer", "model", "preprocessing")


def assert_agrees(key, value, metadata):
    """Asserts that a record agrees with the description of its key."""
    description = LOG_KEYS[key]
    assert isinstance(value, TYPES[description.value]), key
    assert set(description.metadata) <= set(metadata), key
    has_known_members = description.value == "object" and key not in FREE_NAMES
    names = set(metadata) | (set(value) if has_known_members else set())
    assert names <= set(FIELDS), key


def test_every_key_has_an_example_that_agrees_with_its_description():
    assert list(EXAMPLES) == list(LOG_KEYS)
    for key, (value, metadata) in EXAMPLES.items():
        assert_agrees(key, value, metadata)


def test_every_field_is_used_and_has_a_meaning():
    used = {"file", "lineno"}  # in every record
    used |= {"profiled", "synthetic_batches"}  # only in such runs
    used |= {"strategy", "workers", "eval_scores", "mean_candidates"}  # newer than the example log
    for key, (value, metadata) in EXAMPLES.items():
        used |= set(metadata) | (set(value) if isinstance(value, dict) else set())
    assert set(FIELDS) - used == {"first_epoch", "evaluation_lists"}  # omitted from the examples
    assert all(meaning for meaning, _ in FIELDS.values())


def test_the_examples_of_v05_are_json_and_have_known_tags():
    assert set(V05_EXAMPLES) <= set(V05_TAGS)
    for text in V05_EXAMPLES.values():
        json.loads(text.replace(", ...", ""))


def check_log(log: Path) -> None:
    """Asserts that each record of a log of ml-100k agrees with its key and its example."""
    lines = log.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line[len(MLLOG_TOKEN):]) for line in lines if line.startswith(MLLOG_TOKEN)]
    assert len(records) > 60
    for record in records:
        key, value, metadata = record["key"], record["value"], record["metadata"]
        assert_agrees(key, value, metadata)
        assert record["event_type"] == LOG_KEYS[key].event_type
        example, shown = EXAMPLES[key]
        assert set(shown) <= set(metadata), key
        if isinstance(example, dict):
            assert set(example) <= set(value), key
        if LOG_KEYS[key].stage in FIXED:
            assert value == example, key
    # A checkpoint is optional; older versions did not log the others.
    assert {r["key"] for r in records} >= set(LOG_KEYS) - {
        "checkpoint", "epoch_variation", "machine_load", "negatives_drawn", "runtime",
        "train_order_method"}


def test_the_examples_agree_with_a_real_log():
    log = example_log()
    if log is None:
        pytest.skip("there are no committed example results")
    assert load_track("ml-100k").dataset.split_digest == EXAMPLES["dataset_digest"][0]
    check_log(log)
