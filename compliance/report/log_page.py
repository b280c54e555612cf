"""docs/log-format.md, made from the list of tags:

    python -m compliance.report.log_page > docs/log-format.md

The lines at its top are copied from the committed example results.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Iterable

from compliance.logs.keys import EVENT_TYPES, EXAMPLES, FIELDS, TAGS, V05_EXAMPLES, V05_TAGS, Tag
from compliance.report.markdown import code
from compliance.report.pages import prose

COMMAND = "python -m compliance.report.log_page > docs/log-format.md"
STAGES = {
    "submission": "Who and what", "setup": "Before the clock", "optimizer": "Optimizer",
    "model": "Model", "run": "The run", "preprocessing": "Dataset", "sampling": "Training examples",
    "training": "Training", "evaluation": "Evaluation"}
# Records that show what a log looks like; the first of each is quoted.
SHOWN = ("track", "run_start", "epoch_start", "epoch_stop", "eval_accuracy", "tracked_stats",
         "run_stop")
TOKEN = ":::MLLOG "
_HEAD = """# Log format

A log is text; a record is a line that begins with `:::MLLOG` and goes on with a JSON object
of `namespace`, `time_ms` (whole milliseconds since the epoch), `event_type`, `key`, `value`
and `metadata`. Lines end at `\\n`; other lines are passed over. `time_ms` is the wall time at
process start plus monotonic time since. No key stands twice in an object, and there is no NaN
and no infinity. `metadata` may hold more than it must; `file` and `lineno` say what wrote the
record. What a log is held against: [rules.md](rules.md).
""".split("\n")
_TAIL = """
## The dialect of MLPerf v0.5

With `--log_format=v0.5` a record is
`:::MLPv0.5.0 ncf <seconds since the epoch> (<file>:<line>) <tag>[: <json>]`; epochs count
from 0. Logs of v0.5 and v0.6 that others wrote are read too.

| tag | meaning | example of what stands after it |
|---|---|---|""".split("\n")
_EXAMPLE_LOGS = "results/example_*/ncf-ml-100k/result_0.txt"
_DIGEST = re.compile(r'"([0-9a-f]{8})[0-9a-f]{32,56}"')


def example_log() -> Path | None:
    """A log of the committed example results; None outside a checkout that has them."""
    root = Path(__file__).resolve().parents[2]
    return next(iter(sorted(root.glob(_EXAMPLE_LOGS))), None)


def quoted_lines(log: Path, keys: Iterable[str] = SHOWN) -> list[str]:
    """The first line of each key, as it stands in the log."""
    found: dict[str, str] = {}
    for line in log.read_text(encoding="utf-8").split("\n"):
        if line.startswith(TOKEN):
            found.setdefault(json.loads(line[len(TOKEN):])["key"], line)
    return [found[key] for key in keys if key in found]


def _json(value: Any) -> str:
    return _DIGEST.sub(r'"\1..."', json.dumps(value))


def _example(tag: Tag) -> str:
    """Value and metadata of the tag's example, each as code."""
    value, metadata = EXAMPLES[tag.key]
    parts = [] if tag.value == "none" else [_json(value)]
    parts += [_json(metadata)] if metadata else []
    return " ".join(map(code, parts))


def _stage(stage: str) -> list[str]:
    rows = [f"| {code(tag.key)} | {tag.kind} | {tag.value} | {tag.unit or '-'} | "
            f"{prose(tag.meaning)} | {', '.join(map(code, tag.metadata)) or '-'} | "
            f"{_example(tag) or '-'} |" for tag in TAGS.values() if tag.stage == stage]
    return [f"## {STAGES[stage]}", "",
            "| key | event | value | unit | meaning | metadata needed | example |",
            "|---|---|---|---|---|---|---|", *rows, ""]


def _head() -> list[str]:
    log = example_log()
    quoted = ["Lines of [a real log](../" + log.relative_to(log.parents[3]).as_posix() + "):", "",
              "```", *quoted_lines(log), "```", ""] if log else []
    types = ", ".join(f"{kind}: {code(name)}" for kind, name in EVENT_TYPES.items())
    return [*_HEAD, f"`event` is short for `event_type`: {types}.", "",
            "Made from `compliance/logs/keys.py`, not to be edited:", "", f"    {COMMAND}", "", *quoted]


def log_page() -> str:
    """The page as Markdown, ending with a newline."""
    lines = _head()
    for stage in STAGES:
        lines += _stage(stage)
    lines += ["## Names inside values and metadata", "",
              "| name | unit | meaning |", "|---|---|---|"]
    lines += [f"| {code(name)} | {unit or '-'} | {prose(meaning)} |" for name, (meaning, unit) in
              FIELDS.items()]
    lines += _TAIL
    lines += [f"| {code(tag)} | {prose(meaning)} | {code(V05_EXAMPLES.get(tag, '')) or '-'} |"
              for tag, meaning in V05_TAGS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(log_page())
