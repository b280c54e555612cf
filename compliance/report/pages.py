"""Helpers for the generated pages under docs/."""

from __future__ import annotations

import re

from compliance.report.markdown import code_span, escape

# Matches a name of the log or of a track in a sentence: train_samples, model.mf_dim, run_stop,
# opt_adam_beta_1; but neither 0.05 nor v0.5.
_LOG_NAME = re.compile(r"\b[A-Za-z]\w*(?:[./][A-Za-z_]\w*)+|\b[A-Za-z]\w*_\w+")


def log_names_as_code(text: str) -> str:
    """Formats the project's own text as Markdown, with names of log keys and fields as code."""
    return "".join(code_span(part) if _LOG_NAME.fullmatch(part) else escape(part)
                   for part in re.split(f"({_LOG_NAME.pattern})", text))


def capitalized_sentence(text: str) -> str:
    """Formats text as a sentence with a capital (unless it begins with a name) and a full stop."""
    if not _LOG_NAME.match(text):
        text = text[:1].upper() + text[1:]
    return f"{log_names_as_code(text)}." if text else ""
