"""Rule files are loaded strictly and documented completely."""

from __future__ import annotations

import pytest

from compliance.checking.checks import VOCABULARY
from compliance.checking.ruleset import (
    RULES_DIR,
    RULESETS,
    RulesetError,
    load_ruleset,
    load_ruleset_file,
)

HEAD = "ruleset: mine\ntitle: t\ndialect: mllog\nextends: null\nrules:\n"
RULE = """  - id: NCF-X
    severity: error
    check: record
    key: seed
    count: exactly_one
    reason: r
    fix: f
    source: s
"""


def load(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_ruleset_file(path)


@pytest.mark.parametrize("name", RULESETS)
def test_every_rule_has_a_check_a_reason_a_fix_and_a_source(name):
    rules = load_ruleset(name).rules
    assert len({r.id for r in rules}) == len(rules)
    for rule in rules:
        assert rule.id.startswith("NCF-") and rule.severity in ("error", "warning")
        assert rule.reason and rule.fix and rule.source and rule.describe_check()


def test_every_word_of_the_vocabulary_is_documented():
    for name, (meaning, params) in VOCABULARY.items():
        assert meaning, name
        assert all(p.meaning and p.expected for p in params.values())


def test_the_closed_ruleset_contains_the_open_one():
    closed = {r.id: r for r in load_ruleset("ncf-closed").rules}
    assert {r.id for r in load_ruleset("ncf-open").rules} <= set(closed)
    assert closed["NCF-TOP-K"].params["track"] == "evaluation.top_k"


def test_level_2_contains_level_1():
    one, two = (load_ruleset(f"ncf-v0.5-l{n}").rules for n in (1, 2))
    assert two[:len(one)] == one and len(two) == len(one) + 20


@pytest.mark.parametrize("text, line, words", [
    (HEAD + RULE.replace("count: exactly_one", "count: twice"), 10, "'count' must be one of"),
    (HEAD + RULE.replace("key: seed", "key: seed\n    colour: red"), 10,
     "has no parameter 'colour'"),
    (HEAD + RULE.replace("    key: seed\n", ""), 6, "lacks 'key'"),
    (HEAD + RULE.replace("check: record", "check: eval"), 8, "unknown check 'eval'"),
    (HEAD + RULE.replace("severity: error", "severity: fatal"), 7, "unknown severity"),
    (HEAD + RULE.replace("    fix: f\n", ""), 6, "lacks 'fix'"),
    (HEAD + RULE.replace("NCF-X", "ncf x"), 6, "must look like"),
    (HEAD + RULE + RULE, 14, "appears twice"),
    (HEAD + RULE.replace("key: seed", "key: seed\n    key: track"), 10, "appears twice"),
    (HEAD + RULE.replace("key: seed", "key: seed\n    track: os.system"), 10,
     "'track' must be one of"),
    (HEAD + RULE.replace("key: seed", "key: seed\n    field: __class__"), 10, "'field' must be"),
    ("extra: 1\n" + HEAD + RULE, 1, "unknown key 'extra'"),
    (HEAD.replace("extends: null", "extends: ../x") + RULE, 4, "'extends' must be one of"),
    (HEAD.replace("dialect: mllog", "dialect: x") + RULE, 3, "'dialect' must be"),
    (HEAD + "  - [\n", None, "not valid YAML")])
def test_a_wrong_rule_file_is_refused_with_file_and_line(tmp_path, text, line, words):
    with pytest.raises(RulesetError) as found:
        load(tmp_path, text)
    message = str(found.value)
    assert words in message and "\n" not in message
    assert str(tmp_path / "mine.yaml") + (f":{line}:" if line else ":") in message


def test_a_good_rule_file_loads(tmp_path):
    (rule,) = load(tmp_path, HEAD + RULE).rules
    assert rule.params == {"key": "seed", "count": "exactly_one"}


def test_no_module_calls_eval_or_exec():
    import re
    for path in RULES_DIR.parent.rglob("*.py"):
        assert not re.search(r"\b(eval|exec)\(", path.read_text(encoding="utf-8")), path


def test_the_readme_of_the_rules_lists_the_whole_vocabulary():
    text = (RULES_DIR / "README.md").read_text(encoding="utf-8")
    for name, (_, params) in VOCABULARY.items():
        assert f"**{name}**" in text
        assert all(f"`{key}`" in text for key in params), name
