"""Error messages on one line."""

from __future__ import annotations

import pytest

from harness.base.error_text import describe_exception, one_line


@pytest.mark.parametrize(
    "error, settings, text",
    [
        ("two\n  lines", {}, "two lines"),
        (ValueError("a\tb"), {}, "a b"),
        ("abcdef", {"limit": 6}, "abcdef"),
        ("abcdefg", {"limit": 6}, "abcdef"),
        ("abcdefg", {"limit": 6, "ellipsis": "..."}, "abc..."),
        ("abcdef", {"limit": 6, "ellipsis": "..."}, "abcdef"),
    ],
)
def test_a_text_is_one_line_of_at_most_the_limit(error, settings, text):
    assert one_line(error, **settings) == text


def test_an_exception_is_described_by_type_and_message():
    assert describe_exception(KeyError("x\ny")) == r"KeyError: 'x\ny'"
    assert describe_exception(OSError("two\nlines")) == "OSError: two lines"
    long = describe_exception(ValueError("x" * 400))
    assert len(long) == 300 and long.endswith("x...")
