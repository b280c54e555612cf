"""The page compliance/rules/README.md: the format of rule files and the words of their checks.

    python -m compliance.report.vocabulary_page > compliance/rules/README.md
"""

from __future__ import annotations

from compliance.checking.checks import VOCABULARY

COMMAND = "python -m compliance.report.vocabulary_page > compliance/rules/README.md"
_HEAD = f"""\
# Rules as data

A rule file contains `ruleset`, `title`, `dialect` (mllog or v0.5), `extends` (a ruleset, or null)
and `rules`. Each rule has an `id` (NCF-...), a `severity` (error or warning), a `check` (a word of the
vocabulary below) with its parameters, and `reason`, `fix` and `source`. A rule replaces the
inherited rule of the same id.

Files are validated when they are loaded: for an unknown key or value, the error names the file and
the line. Rule files contain no code. If the record or the track that a rule compares with is
missing, the rule is violated, unless another rule already reports that record
(`compliance/checking/needs.py`). `python -m compliance rules` prints all rules.

`official_ncf.yaml` has a different format, that of `mlperf_logging.compliance_checker`.

## Vocabulary

This page is generated: `{COMMAND}`.
"""


def vocabulary_page() -> str:
    """Returns the page as Markdown."""
    parts = [_HEAD]
    for name, (meaning, params) in VOCABULARY.items():
        parts.append(f"**{name}** - {meaning}\n")
        if params:
            parts.append("".join(
                f"- `{key}`{'' if param.required else ' (optional)'}: {param.meaning}; "
                f"{param.expected}\n" for key, param in params.items()))
    return "\n".join(parts)


if __name__ == "__main__":
    print(vocabulary_page(), end="")
