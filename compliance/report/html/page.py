"""Pages as text, by Jinja2 with everything escaped, and the file that is written."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import write_text
from compliance.report.html.comparison import comparison_section
from compliance.report.html.limits import FULL_BYTES, MAX_SETS, rows_for, short
from compliance.report.html.sections import interval_text, set_section
from compliance.report.html.tables import seconds
from compliance.report.render import WORDS, logs
from compliance.report.sets import Report, verdict_of
from compliance.results.comparison import Comparison
from compliance.results.run_set import RunSet
from compliance.results.scoring import Score

_TEMPLATES = Path(__file__).resolve().parent / "templates"


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True,
                              undefined=jinja2.StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)


def report_page(report: Report, folder: str) -> str:
    """The page of `report`: one set as it is; of several an index first, then each.

    Sets are written out in full while the page stays small; the others are in the index.
    """
    command = f"python -m compliance report {folder} --html FILE"
    if len(report.sets) == 1:
        runs, score = report.sets[0]
        for parts in (1, 2, 4, 16):  # smaller tables, should the rest need the room
            section = set_section("set", runs, score, rows_for(parts))
            body = _render("set.html", s=section, level=1)
            if len(body.encode()) < FULL_BYTES:
                break
        title = f"{section['word']}: {_score_words(score)}, {section['title']}"
        return _page(title, "report", command, body)
    rows, bodies, size = [], [], 0
    for number, (runs, score) in enumerate(report.sets, 1):
        key, body = f"set-{number}", Markup("")
        if size < FULL_BYTES:
            section = set_section(key, runs, score, rows_for(len(report.sets)))
            body = _render("set.html", s=section, level=2)
            cost = len(body.encode())
            body = body if size + cost < FULL_BYTES else Markup("")
            size = size + cost if body else FULL_BYTES
        bodies.append(body)
        rows.append(_row(runs, score, key if body else None))
    verdict = report.check.verdict
    heading = f"{len(report.sets)} sets of runs"
    passed = sum(row["verdict"] == "pass" for row in rows)
    lead = (f"{passed} of {len(rows)} pass; {logs(len(report.check.files))} "
            f"under {short(folder, 200)}")
    index = _render("index.html", verdict=verdict, word=WORDS[verdict], heading=heading,
                    lead=lead, rows=rows[:MAX_SETS], note=_left(rows))
    return _page(f"{WORDS[verdict]}: {heading}", "report", command,
                 Markup("\n").join([index, *bodies]))


def _score_words(score: Score) -> str:
    return "no score" if score.outcome.seconds is None else f"{seconds(score.outcome.seconds)} s"


def _row(runs: RunSet, score: Score, link: str | None) -> dict[str, Any]:
    """A row of the index."""
    verdict, out = verdict_of(runs.files), score.outcome
    reached = sum(run.converged for run in runs.runs)
    return {"link": link, "path": short(runs.path, 160), "verdict": verdict,
            "word": WORDS[verdict], "track": short(runs.files[0].facts.track or "-", 40),
            "score": seconds(out.seconds), "converged": f"{reached} of {len(runs.runs)}",
            "remark": interval_text(score) if out.seconds is not None
            else short(out.reason or "-", 160)}


def _left(rows: list[dict[str, Any]]) -> str:
    """What is said of sets that the page does not write out."""
    short_of = sum(row["link"] is None for row in rows)
    text = f"{len(rows) - MAX_SETS:,} more sets are not listed. " if len(rows) > MAX_SETS else ""
    return text + (f"{short_of:,} sets without a link are not written out, to keep the page below "
                   "1 MB: give their folder to report --html." if short_of else "")


def comparison_page(answer: Comparison, sets: tuple[RunSet, RunSet],
                    scores: tuple[Score, Score]) -> str:
    """The page of `compare`: the answer first, then both sides."""
    section = comparison_section(answer, sets, scores)
    command = f"python -m compliance compare {answer.a.path} {answer.b.path} --html FILE"
    return _page(f"B against A: {answer.verdict}", "comparison", command,
                 _render("compare.html", c=section))


def _render(template: str, **values: Any) -> Markup:
    return Markup(_templates().get_template(template).render(**values))


def _page(title: str, kind: str, command: str, body: Markup) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("neumf-bench")
    except PackageNotFoundError:
        release = "not installed"
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = _render(
        "base.html", title=short(title, 200), kind=kind, command=short(command, 300), body=body,
        css=_render("page.css"), script=Markup(script), script_hash=f"sha256-{digest}",
        version=release)
    return text.encode("utf-8", "replace").decode() + "\n"


def write_page(path: Path, text: str) -> None:
    """Writes the page as a whole.  Raises UsageError where that cannot be."""
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
