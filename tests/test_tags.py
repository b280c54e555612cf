"""The list of tags agrees with mlperf_logging, with the rules, and with itself."""

from __future__ import annotations

from mlperf_logging.mllog import constants

from compliance.ruleset import load_ruleset
from compliance.tags import EVENT_TYPES, TAGS, V05_TAGS

STANDARD = {name for name in vars(constants).values() if isinstance(name, str)}
EXPECTED_STANDARD = {
    "submission_benchmark", "submission_org", "submission_division", "submission_status",
    "submission_platform", "cache_clear", "init_start", "init_stop", "run_start", "run_stop",
    "epoch_start", "epoch_stop", "eval_start", "eval_stop", "eval_accuracy", "seed",
    "global_batch_size", "train_samples", "eval_samples", "opt_name", "opt_base_learning_rate",
    "opt_adam_beta_1", "opt_adam_beta_2", "opt_adam_epsilon"}


def test_every_tag_has_a_line_of_meaning():
    for tag in TAGS.values():
        assert tag.meaning and "\n" not in tag.meaning
        assert tag.event_type in EVENT_TYPES.values()


def test_standard_keys_are_spelled_as_the_library_spells_them():
    assert EXPECTED_STANDARD <= set(TAGS)
    assert EXPECTED_STANDARD <= STANDARD


def test_intervals_come_in_pairs():
    starts = {k[:-6] for k, tag in TAGS.items() if tag.kind == "start"}
    stops = {k[:-5] for k, tag in TAGS.items() if tag.kind == "stop"}
    assert starts == stops and all(k.endswith("_start") for k in TAGS if TAGS[k].kind == "start")


def test_the_four_stages_of_ncf_are_all_logged():
    stages = {tag.stage for tag in TAGS.values()}
    assert {"preprocessing", "sampling", "optimizer", "model", "evaluation"} <= stages


def test_rules_speak_only_of_known_tags():
    for name, known in (("ncf-closed", TAGS), ("ncf-v0.5-l2", V05_TAGS)):
        for rule in load_ruleset(name).rules:
            params = rule.params
            keys = [params[k] for k in ("key", "as", "of", "after", "before", "stop", "users")
                    if k in params] + params.get("keys", [])
            keys += [f"{n}_start" for n in params.get("intervals", [])]
            assert set(keys) <= set(known), rule.id
