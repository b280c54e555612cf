"""The findings of the doctor."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from compliance.base.text import printable_line

# States of a finding: nothing to do; a remark; not known on this system; the machine is not fit.
OK, NOTE, UNKNOWN, NOT_FIT = "ok", "note", "not known", "NOT FIT"
_WIDTH = 80
_STATE_WIDTH, _NAME_WIDTH = 9, 11


class Finding(NamedTuple):
    """One finding.

    Attributes:
      state: OK, NOTE, UNKNOWN or NOT_FIT.
      name: What was examined, in one or two words.
      text: The fact, in one line.
      fix: What to do, in one line; empty if there is nothing to do.
    """

    state: str
    name: str
    text: str
    fix: str = ""


def format_finding(finding: Finding) -> str:
    """Formats a finding in lines of 80 columns, the fix on a line of its own."""
    head = f"  {finding.state:<{_STATE_WIDTH}} {finding.name:<{_NAME_WIDTH}} "
    indent = " " * len(head)
    lines = _wrap(head, finding.text, indent)
    if finding.fix:
        lines += _wrap(f"{indent}fix: ", finding.fix, indent + "     ")
    return "\n".join(lines)


def _wrap(head: str, text: str, indent: str) -> list[str]:
    """Wraps a text between words; a command or a path stays in one piece."""
    return textwrap.wrap(
        head + printable_line(text), _WIDTH, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
