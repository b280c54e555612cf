"""What the generated pages under docs/ have in common."""

from __future__ import annotations

import re

from compliance.report.markdown import code, escaped

# A name of the log or of a track inside a sentence: train_samples, model.mf_dim, run_stop.
NAME = re.compile(r"\w+(?:[._/]\w+)*[_./]\w+(?<![0-9])")


def prose(text: str) -> str:
    """Our own words as Markdown, with the names of the log as code."""
    return "".join(code(part) if NAME.fullmatch(part) else escaped(part)
                   for part in re.split(f"({NAME.pattern})", text))


def sentence(text: str) -> str:
    """The same with a capital, but for a name, and a full stop; empty stays empty."""
    if not NAME.match(text):
        text = text[:1].upper() + text[1:]
    return f"{prose(text)}." if text else ""
