"""Renders whole pages with Jinja2, which escapes all values, and writes the file."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import write_text
from compliance.report.formatting import format_log_count, format_seconds
from compliance.report.html.comparison import comparison_section
from compliance.report.html.limits import MAX_DETAIL_BYTES, MAX_SETS, clip_text, row_limits
from compliance.report.html.sections import interval_text, set_section
from compliance.report.sets import Report
from compliance.results.comparison import Comparison
from compliance.results.run_set import RunSet
from compliance.results.scoring import Score
from compliance.results.set_verdict import compliance_text, judge_set

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_SPACES = re.compile(r"([ /]+)")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[kMGs]|[mun]s)\b)")
_MAX_WHOLE = 24  # characters


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """Returns the Jinja2 environment, which escapes all values and rejects undefined names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["whole"] = keep_words_whole
    return environment


def keep_words_whole(text: Any) -> Markup:
    """Marks numbers and names with hyphens, such as 1e-07, so that no line breaks inside them.

    Nor does a line break between a number and its unit.

    A longer word is not marked, since it may be wider than a phone.
    """
    parts = _SPACES.split(_BEFORE_UNIT.sub("\u00a0", str(text)))
    return Markup("").join(
        Markup('<span class="nb">{}</span>').format(part)
        if "-" in part.strip("-") and len(part) <= _MAX_WHOLE else escape(part) for part in parts)


def report_page(report: Report, folder: str) -> str:
    """Builds the page of `report`.

    A single set is shown in full. Several sets are listed in an index, and each is shown in
    full while the page is small enough; the others are in the index only.

    Args:
      report: The answer of `report`.
      folder: The folder that was given to `report`, for the page's footer.

    Returns:
      The page as HTML.
    """
    command = f"python -m compliance report {folder} --html FILE"
    if len(report.sets) == 1:
        run_set, score = report.sets[0]
        for parts in (1, 2, 4, 16):  # smaller tables if the rest of the page needs the space
            section = set_section("set", run_set, score, row_limits(parts))
            body = _render("set.html", s=section, level=1)
            if len(body.encode()) < MAX_DETAIL_BYTES:
                break
        title = f"{section['word']}: {_score_text(score)}, {section['title']}"
        return _render_page(title, "report", command, body)
    rows, bodies, size = [], [], 0
    for number, (run_set, score) in enumerate(report.sets, 1):
        key, body = f"set-{number}", Markup("")
        if size < MAX_DETAIL_BYTES:
            section = set_section(key, run_set, score, row_limits(len(report.sets)))
            body = _render("set.html", s=section, level=2)
            body_size = len(body.encode())
            body = body if size + body_size < MAX_DETAIL_BYTES else Markup("")
            size = size + body_size if body else MAX_DETAIL_BYTES
        bodies.append(body)
        rows.append(_index_row(run_set, score, key if body else None))
    heading = f"{len(report.sets)} sets of runs"
    passed = sum(row["verdict"] == "pass" for row in rows)
    word = "PASS" if passed == len(rows) else "FAIL"
    lead = (f"{passed} of {len(rows)} sets pass; {format_log_count(len(report.check.files))} under "
            f"{clip_text(folder, 200)}: {compliance_text(report.check.files)}")
    index = _render("index.html", verdict=word.lower(), word=word, heading=heading,
                    lead=lead, rows=rows[:MAX_SETS], note=_omitted_sets_note(rows))
    return _render_page(f"{word}: {heading}", "report", command,
                        Markup("\n").join([index, *bodies]))


def _score_text(score: Score) -> str:
    """Returns the score in seconds, or "no score"."""
    seconds = score.result.seconds
    return "no score" if seconds is None else f"{format_seconds(seconds)} s"


def _index_row(run_set: RunSet, score: Score, link: str | None) -> dict[str, Any]:
    """Returns the row of one set in the index; `link` is the id of its section, or None."""
    verdict, result = judge_set(run_set.files, score), score.result
    num_converged = sum(run.converged for run in run_set.runs)
    return {"link": link, "path": clip_text(run_set.path, 160),
            "verdict": verdict.word.lower(), "word": verdict.word,
            "logs": compliance_text(run_set.files),
            "track": clip_text(run_set.files[0].summary.track or "-", 40),
            "score": format_seconds(result.seconds),
            "converged": f"{num_converged} of {len(run_set.runs)}",
            "remark": interval_text(score) if result.seconds is not None
            else clip_text(result.reason or "-", 160)}


def _omitted_sets_note(rows: list[dict[str, Any]]) -> str:
    """Returns the note on sets that the page does not show in full."""
    num_not_written = sum(row["link"] is None for row in rows)
    text = f"{len(rows) - MAX_SETS:,} more sets are not listed. " if len(rows) > MAX_SETS else ""
    if num_not_written:
        text += (f"{num_not_written:,} set{'s' * (num_not_written != 1)} without a link not shown "
                 "in full, to keep the page below 1 MB: run report --html on the set's folder.")
    return text


def comparison_page(comparison: Comparison, sets: tuple[RunSet, RunSet],
                    scores: tuple[Score, Score]) -> str:
    """Builds the page of `compare`.

    Args:
      comparison: The answer of `compare`.
      sets: Both sets, A and B.
      scores: Their scores.

    Returns:
      The page as HTML.
    """
    section = comparison_section(comparison, sets, scores)
    command = f"python -m compliance compare {comparison.a.path} {comparison.b.path} --html FILE"
    return _render_page(f"B against A: {comparison.verdict}", "comparison", command,
                        _render("compare.html", c=section))


def build_page(title: str, kind: str, command: str, template: str, **values: Any) -> str:
    """Builds a page of another kind.

    Args:
      title: The title of the document.
      kind: The kind of page, for its heading.
      command: The command that made it, for the footer.
      template: A file in templates/.
      **values: The values of the template, which escapes them.

    Returns:
      The page as HTML.
    """
    return _render_page(title, kind, command, _render(template, **values))


def document_page(
    title: str, kind: str, command: str, badge: tuple[str, str], heading: str, lead: str,
    tiles: list[tuple[str, str, str]], method: str, sections: list[dict[str, Any]],
) -> str:  # fmt: skip
    """Builds a page that is not made from logs alone, in the style of the others.

    Args:
      title: The page's title.
      kind: What the page shows, such as "report", for its bar.
      command: The command that made it, for the footer.
      badge: (Verdict, which selects the colour; its word).
      heading: The heading.
      lead: The sentence below the heading.
      tiles: (Name, value, remark) of the most important figures.
      method: How the figures were made.
      sections: Dicts of "id", "heading", "notes" (sentences), "figures" (`figure_block`) and
        "tables" (`HtmlTable`).

    Returns:
      The page as HTML.
    """
    return build_page(
        title, kind, command, "document.html", badge=badge, heading=heading,
        lead=clip_text(lead, 400), tiles=tiles, method=method, sections=sections,
    )  # fmt: skip


def _render(template: str, **values: Any) -> Markup:
    """Renders a template as markup."""
    return Markup(_environment().get_template(template).render(**values))


def _render_page(title: str, kind: str, command: str, body: Markup) -> str:
    """Puts a body into the base template with style, script and footer."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("neumf-bench")
    except PackageNotFoundError:
        release = "not installed"
    # The content security policy names the script by its digest, so no other script can run.
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = _render(
        "base.html", title=clip_text(title, 200), kind=kind, command=clip_text(command, 300),
        body=body, css=_render("page.css"), script=Markup(script), script_hash=f"sha256-{digest}",
        version=release)
    return text.encode("utf-8", "replace").decode() + "\n"


def write_page(path: Path, text: str) -> None:
    """Writes the page to a file atomically.

    Raises:
      UsageError: The file cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
