"""A folder of a results tree means the results in it."""

from __future__ import annotations

import pytest

from compliance.__main__ import main
from compliance.base.errors import UsageError
from compliance.logs.find_logs import find_logs
from tests.support.logs.run_sets import write_set


@pytest.fixture
def tree(tmp_path):
    """One run each of results, an experiment, an unfinished set and a set that was set aside."""
    for place in ("sys/ncf-ml-100k", "sys/experiments/ncf-ml-100k/20260101T000000Z-mine",
                  "sys/attempts/ncf-ml-100k/current", "sys/attempts/ncf-ml-100k/20250101T000000Z"):
        write_set(tmp_path / place, [3])
    return tmp_path


@pytest.mark.parametrize("given, found", [
    ("", ["sys/ncf-ml-100k"]), ("sys", ["sys/ncf-ml-100k"]),
    ("sys/ncf-ml-100k", ["sys/ncf-ml-100k"]),
    ("sys/experiments", ["sys/experiments/ncf-ml-100k/20260101T000000Z-mine"]),
    ("sys/attempts/ncf-ml-100k/current", ["sys/attempts/ncf-ml-100k/current"]),
    ("sys/attempts", ["sys/attempts/ncf-ml-100k/20250101T000000Z",
                      "sys/attempts/ncf-ml-100k/current"])])
def test_attempts_and_experiments_are_left_out_unless_they_are_named(tree, given, found):
    assert [str(log.parent.relative_to(tree)) for log in find_logs(tree / given)] == found


@pytest.mark.parametrize("verb", ["check", "score", "report"])
def test_every_verb_leaves_them_out(tree, capsys, verb):
    assert main([verb, str(tree)]) in (0, 2)
    out = capsys.readouterr()
    assert "experiments" not in out.out + out.err and "attempts" not in out.out + out.err


def test_where_there_are_only_such_logs_the_message_says_where(tree):
    for log in find_logs(tree):
        log.unlink()
    with pytest.raises(UsageError, match="outside attempts and experiments; to read"):
        find_logs(tree)
