"""Numbers as text."""

from __future__ import annotations

import pytest

from compliance.report.formatting import format_rate_with_prefix


@pytest.mark.parametrize("value, text", [
    (12, "12"), (858_000, "858 k"), (999_400, "999 k"), (999_600, "1 M"), (1_000_600, "1 M"),
    (5_110_000, "5.11 M"), (999_900_000, "1 G"),
])  # fmt: skip
def test_a_rate_that_rounds_up_takes_the_next_prefix(value, text):
    assert format_rate_with_prefix(value) == text
