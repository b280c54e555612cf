"""docs/log-format.md, generated from the list of log keys:

    python -m compliance.report.log_page > docs/log-format.md

The log lines at the top of the page are copied from the committed example results.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Iterable

from compliance.logs.keys import (
    EVENT_TYPES,
    EXAMPLES,
    FIELDS,
    LOG_KEYS,
    V05_EXAMPLES,
    V05_TAGS,
    LogKey,
)
from compliance.report.markdown import code_span
from compliance.report.pages import log_names_as_code

COMMAND = "python -m compliance.report.log_page > docs/log-format.md"
STAGE_TITLES = {
    "submission": "Submission", "setup": "Setup (untimed)", "optimizer": "Optimizer",
    "model": "Model", "run": "The run", "preprocessing": "Dataset", "sampling": "Training examples",
    "training": "Training", "evaluation": "Evaluation"}
# Keys of the example lines on the page; the first record of each key is quoted.
QUOTED_KEYS = ("track", "run_start", "epoch_start", "epoch_stop", "eval_accuracy", "tracked_stats",
               "run_stop")
MLLOG_TOKEN = ":::MLLOG "
_INTRODUCTION = """# Log format

A log is text. A record is a line that begins with `:::MLLOG`, followed by a JSON object with
the members `namespace`, `time_ms` (whole milliseconds since 1970), `event_type`, `key`, `value`
and `metadata`. Lines end with `\\n`; other lines are ignored. `time_ms` is the wall time at
process start plus the monotonic time since then. No object repeats a key, and there is no NaN
or infinity. `metadata` may contain more than the required names; `file` and `lineno` identify
the source line that wrote the record. If metadata that a rule compares is missing, `check`
fails or warns; [rules.md](rules.md) lists every rule.
""".split("\n")
_V05_SECTION = """
## The dialect of MLPerf v0.5

With `--log_format=v0.5` a record is
`:::MLPv0.5.0 ncf <seconds since 1970> (<file>:<line>) <tag>[: <json>]`; epochs are numbered
from 0. Logs of v0.5 and v0.6 from other implementations can be read too.

| tag | meaning | example value |
|---|---|---|""".split("\n")
_EXAMPLE_LOG_PATTERN = "results/example_*/ncf-ml-100k/result_0.txt"
_DIGEST = re.compile(r'"([0-9a-f]{8})[0-9a-f]{32,56}"')


def example_log() -> Path | None:
    """Returns a log of the committed example results, or None if there is none."""
    root = Path(__file__).resolve().parents[2]
    return next(iter(sorted(root.glob(_EXAMPLE_LOG_PATTERN))), None)


def quoted_lines(log: Path, keys: Iterable[str] = QUOTED_KEYS) -> list[str]:
    """Returns the first line of each key, unchanged.

    Args:
      log: An MLLOG log.
      keys: The keys.
    """
    found: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").split("\n"):
        if line.startswith(MLLOG_TOKEN):
            found.setdefault(json.loads(line[len(MLLOG_TOKEN):])["key"], line)
    return [found[key] for key in keys if key in found]


def _json_with_short_digests(value: Any) -> str:
    """Formats a value as JSON, with digests shortened to eight digits."""
    return _DIGEST.sub(r'"\1..."', json.dumps(value))


def _example(tag: LogKey) -> str:
    """Returns value and metadata of the key's example, each as code."""
    value, metadata = EXAMPLES[tag.key]
    parts = [] if tag.value == "none" else [_json_with_short_digests(value)]
    parts += [_json_with_short_digests(metadata)] if metadata else []
    return " ".join(map(code_span, parts))


def _stage_section(stage: str) -> list[str]:
    """Returns the section of one stage: a table of its keys."""
    rows = [f"| {code_span(tag.key)} | {tag.kind} | {tag.value} | {tag.unit or '-'} | "
            f"{log_names_as_code(tag.meaning)} | "
            f"{', '.join(map(code_span, tag.metadata)) or '-'} | "
            f"{_example(tag) or '-'} |" for tag in LOG_KEYS.values() if tag.stage == stage]
    return [f"## {STAGE_TITLES[stage]}", "",
            "| key | event | value | unit | meaning | required metadata | example |",
            "|---|---|---|---|---|---|---|", *rows, ""]


def _introduction() -> list[str]:
    """Returns the page's beginning, with lines of a real log."""
    log = example_log()
    quoted = ["Lines from [a real log](../" + log.relative_to(log.parents[3]).as_posix() + "):", "",
              "```", *quoted_lines(log), "```", ""] if log else []
    types = ", ".join(f"{kind}: {code_span(name)}" for kind, name in EVENT_TYPES.items())
    return [*_INTRODUCTION, f"`event` is short for `event_type`: {types}.", "",
            "This page is generated from `compliance/logs/keys.py`; do not edit it:", "",
            f"    {COMMAND}", "",
            *quoted]


def log_page() -> str:
    """Returns the page as Markdown, ending with a line break."""
    lines = _introduction()
    for stage in STAGE_TITLES:
        lines += _stage_section(stage)
    lines += ["## Names inside values and metadata", "",
              "| name | unit | meaning |", "|---|---|---|"]
    lines += [f"| {code_span(name)} | {unit or '-'} | {log_names_as_code(meaning)} |"
              for name, (meaning, unit) in FIELDS.items()]
    lines += _V05_SECTION
    lines += [f"| {code_span(tag)} | {log_names_as_code(meaning)} | "
              f"{code_span(V05_EXAMPLES.get(tag, '')) or '-'} |"
              for tag, meaning in V05_TAGS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(log_page())
