"""`check`: reads logs and determines their verdicts.

Benchmark, division and track decide which rules apply. Their records may be anywhere in the log.
Nearly every log has them at its top, so a file is first checked with the values in its first
items. If the complete log has other values, the file is checked a second time with those. Both
passes keep only the summary and the state of the checks, so memory does not grow with the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

from compliance.base.errors import UsageError
from compliance.base.text import format_value
from compliance.base.untrusted_files import read_bounded, unsafe_path_reason
from compliance.checking.checks import CHECKS, SET_CHECKS, Check, Context
from compliance.checking.checks.base import Report
from compliance.checking.checks.sets import LogSet, SetMember
from compliance.checking.needs import NeedTracker
from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Rule, Ruleset, load_ruleset
from compliance.logs.dialects import Event, Item, LogReader, Problem
from compliance.logs.find_logs import find_logs
from compliance.logs.run_summary import RunSummary
from compliance.tracks import BUILTIN_TRACKS, load_track

# The number of items that are read to choose the rules for the first pass.
MAX_HEAD_ITEMS = 1000
MAX_ENTRY_BYTES = 1 << 20
_BENCHMARK_FIX = "Give NCF logs: MLLOG with submission_benchmark ncf, or v0.5 with benchmark ncf"


def check_paths(paths: Iterable[str | Path], ruleset: str = "auto") -> CheckResult:
    """Checks logs, and folders of logs including the rules about sets.

    Args:
      paths: Logs, and folders; a folder means every result_*.txt under it.
      ruleset: The name of a ruleset; auto selects it by the dialect and division of each log.

    Returns:
      The results in the order of the paths, and within a folder in natural order.

    Raises:
      UsageError: A path does not exist, or a folder contains no log.
    """
    files: list[FileResult] = []
    for path in map(Path, paths):
        if path.is_dir():
            results = [check_folder_log(log, ruleset) for log in find_logs(path)]
            check_sets(results)
            files += results
        elif path.exists():
            files.append(check_file(path, ruleset))
        else:
            raise UsageError(f"{path}: no such file or folder; give logs, or a folder of logs")
    names = {f.ruleset for f in files}
    return CheckResult(names.pop() if len(names) == 1 else None, files)


def check_folder_log(path: Path, ruleset: str = "auto") -> FileResult:
    """Checks a log that was found in a folder; refuses links to files outside the folder.

    Args:
      path: The log.
      ruleset: As in `check_paths`.
    """
    reason = unsafe_path_reason(path)
    if reason is None:
        return check_file(path, ruleset)
    result = FileResult(str(path))
    _set_unreadable(result, reason, "Replace it with the log file itself")
    return result


@dataclass
class _Identity:
    """The values that decide which rules apply: the first record of each key in the log.

    Attributes:
      benchmark: (value, line) of submission_benchmark. In the v0.5 dialect it is the name at
        the beginning of each record.
      division: The value of submission_division.
      track: The value of track.
    """

    benchmark: tuple[Any, int] | None = None
    division: Any = None
    track: Any = None

    KEYS = ("submission_benchmark", "submission_division", "track")

    def observe(self, event: Event) -> None:
        """Processes an event of one of `KEYS`; only the first one of each key counts."""
        if event.key == "submission_benchmark":
            if self.benchmark is None:
                self.benchmark = (event.value, event.line)
        elif event.key == "submission_division":
            if self.division is None:
                self.division = event.value
        elif self.track is None:
            self.track = event.value

    def observe_heading(self, event: Event) -> None:
        """Processes the first event of a log in the v0.5 dialect."""
        if self.benchmark is None and event.benchmark:
            self.benchmark = (event.benchmark, event.line)

    @property
    def builtin_track(self) -> str | None:
        """The track, if it is a built-in one: a log never chooses a file."""
        is_known = isinstance(self.track, str) and self.track in BUILTIN_TRACKS
        return self.track if is_known else None


def check_file(path: str | Path, ruleset: str = "auto") -> FileResult:
    """Checks one log with the rules about single logs.

    Args:
      path: The log.
      ruleset: As in `check_paths`.

    Returns:
      The result. No content of the log raises an exception: an internal error is reported for
      this file only, by rule NCF-INTERNAL.
    """
    try:
        result, identity, whole_log = _check_once(path, ruleset, None)
        if whole_log != identity:
            # A record after the first items has another value: the complete log counts.
            result, *_ = _check_once(path, ruleset, whole_log)
    except OSError as error:
        result = FileResult(str(path))
        _set_unreadable(result, f"cannot be read: {error.strerror or error}",
                        "Make the file readable")
    except Exception as error:  # any defect of the checker that a log triggers
        result = FileResult(str(path))
        result.unreadable = True
        result.errors.add(
            "NCF-INTERNAL", None, f"the checker failed on this file: {type(error).__name__}: "
            f"{format_value(str(error), 200)}", "Report this log as an issue of the checker")
    return result


def _set_unreadable(result: FileResult, message: str, fix: str) -> None:
    result.unreadable = True
    result.errors.add("NCF-READ", None, message, fix)


def _check_once(path: str | Path, wanted: str, known: _Identity | None
                ) -> tuple[FileResult, _Identity, _Identity]:
    """Reads the log once, and checks it by the identity in its first items, or by `known`.

    Returns:
      (the result, the identity that was used, the identity of the complete log).
    """
    result, reader = FileResult(str(path)), LogReader(path)
    blocks = reader.blocks()
    head_blocks = _read_head(blocks)
    if reader.dialect is None:
        _set_unreadable(result, "it contains no record of a known dialect",
                        "Give a log with :::MLLOG, :::MLPv0.5.0 or :::MLL records")
        result.sha256 = reader.sha256
        return result, _Identity(), _Identity()
    result.dialect = reader.dialect.name
    result.summary = RunSummary(reader.dialect.name, reader.dialect.ticks_per_second)
    whole_log = _Identity()
    judged_by = known or _identity_of_head(head_blocks)
    first_event = next((item for items in head_blocks for item in items
                        if isinstance(item, Event)), None)
    if first_event is not None:
        whole_log.observe_heading(first_event)
    ruleset = _choose_ruleset(wanted, result, judged_by)
    # From here on the log is read from its beginning; the blocks already read come first.
    all_blocks = chain(head_blocks, blocks)
    if ruleset is None:
        _summarize_without_rules(result, all_blocks, whole_log)
    else:
        result.ruleset = ruleset.name
        _apply_rules(ruleset, result, judged_by.builtin_track, all_blocks, whole_log)
        result.unreadable = not result.summary.is_complete
    for wrapping in reader.wrappings:
        result.warnings.add("NCF-ENCODING", None, f"the file is {wrapping}; it was read anyway",
                            "Submit the log as it was written")
    result.sha256, result.content_sha256 = reader.sha256, reader.content_sha256
    return result, judged_by, whole_log


def _read_head(blocks: Iterator[list[Item]]) -> list[list[Item]]:
    """Returns the first blocks: up to run_start, or at least MAX_HEAD_ITEMS items."""
    head: list[list[Item]] = []
    for items in blocks:
        head.append(items)
        if sum(map(len, head)) >= MAX_HEAD_ITEMS or any(item.key == "run_start" for item in items):
            break
    return head


def _identity_of_head(head_blocks: list[list[Item]]) -> _Identity:
    """Returns the identity in the first items, up to run_start."""
    identity, is_first = _Identity(), True
    for item in [item for items in head_blocks for item in items][:MAX_HEAD_ITEMS]:
        if isinstance(item, Event):
            if is_first:
                identity.observe_heading(item)
                is_first = False
            if item.key in _Identity.KEYS:
                identity.observe(item)
        if item.key == "run_start":
            break
    return identity


def _summarize_without_rules(result: FileResult, blocks: Iterable[list[Item]],
                             whole_log: _Identity) -> None:
    """Fills the summary of a log without rules, and warns about unreadable records."""
    for items in blocks:
        for item in items:
            if isinstance(item, Event):
                result.summary.observe(item)
                if item.key in _Identity.KEYS:
                    whole_log.observe(item)
            elif item.code != "line":
                result.warnings.add("NCF-RECORD", item.line, item.message,
                                    "Write one complete record per line")


def _choose_ruleset(wanted: str, result: FileResult, identity: _Identity) -> Ruleset | None:
    """Returns the ruleset that applies to the log.

    If none does, reports the violation NCF-BENCHMARK or NCF-DIALECT and returns None.
    """
    benchmark, line = identity.benchmark or ("ncf", None)
    if result.dialect == "v0.5":
        is_closed = _entry_division(Path(result.path)) == "closed"
        name = "ncf-v0.5-l2" if is_closed else "ncf-v0.5-l1"
    else:
        # A log without submission_benchmark is checked: a rule reports the missing record.
        benchmark = "ncf" if benchmark is None else benchmark
        name = "ncf-open" if identity.division == "open" else "ncf-closed"
    if benchmark != "ncf" or result.dialect == "v0.6":
        what = f"of benchmark {format_value(benchmark)}" if benchmark != "ncf" \
            else "in the v0.6 dialect"
        result.errors.add("NCF-BENCHMARK", line,
                          f"the log is {what}, for which there are no rules",
                          _BENCHMARK_FIX)
        return None
    ruleset = load_ruleset(name if wanted == "auto" else wanted)
    if ruleset.dialect != result.dialect:
        result.errors.add("NCF-DIALECT", None, f"ruleset {ruleset.name} is for {ruleset.dialect} "
                          f"logs; this log is {result.dialect}", "Use --ruleset auto")
        return None
    return ruleset


def _entry_division(log: Path) -> str | None:
    """The division in a v0.5 submission's entry.json, next to the log or one folder up."""
    folder = log.absolute().parent
    for place in (folder, folder.parent):
        try:
            data = read_bounded(place / "entry.json", MAX_ENTRY_BYTES)
            entry = json.loads(data.decode("utf-8", "replace"))
        except (OSError, ValueError, RecursionError):
            continue
        division = entry.get("division") if isinstance(entry, dict) else None
        return division.strip().lower() if isinstance(division, str) else None
    return None


def _apply_rules(ruleset: Ruleset, result: FileResult, track: str | None,
                 blocks: Iterable[list[Item]], whole_log: _Identity) -> None:
    """Passes every item to the summary and to the checks of the rules."""
    summary = result.summary
    context = Context(load_track(track) if track else None, summary)
    checks: list[Check] = []
    # Checks that observe all items, in blocks.
    block_checks: list[Check] = []
    reading_rules: dict[str, Rule] = {}  # by the code of a problem
    # The functions to call for an event of a key, and under None those for a problem. The
    # lookup makes `check` fast: a rule about a few keys adds no cost to other records.
    observers: dict[str | None, list[Callable[[Any], None]]] = {
        key: [summary.observe] for key in summary.KEYS}
    for key in _Identity.KEYS:
        observers.setdefault(key, []).append(whole_log.observe)
    needs = NeedTracker(ruleset, context)
    for key, observe in needs.observers.items():
        observers.setdefault(key, []).append(observe)

    def add_problem(problem: Problem) -> None:
        if problem.code in reading_rules:
            result.add(reading_rules[problem.code], problem.line, problem.message)

    def keep_for_set(event: Event) -> None:
        result.set_values.setdefault(event.key, (event.value, event.line, event.metadata))

    observers[None] = [add_problem]
    for rule in ruleset.rules:
        if rule.is_about_set:
            # `check_sets` applies these rules later; now only their values are collected.
            for key in SET_CHECKS[rule.check].wanted_keys(rule.params):
                observers.setdefault(key, []).append(keep_for_set)
            continue
        if rule.check == "reading":
            reading_rules.update(dict.fromkeys(rule.params["problems"], rule))
        check = CHECKS[rule.check](rule.params, context, _reporter(result, rule))
        checks.append(check)
        if check.keys is None:
            block_checks.append(check)
        for key in dict.fromkeys(check.keys or ()):
            observers.setdefault(key, []).append(check.observe)
    get = observers.get
    for items in blocks:
        for check in block_checks:
            check.observe_block(items)
        for item in items:
            for observe in get(item.key, ()):
                observe(item)
    for check in checks:
        check.finish()
    if summary.is_complete:
        needs.report_unmet(result)


def _reporter(result: FileResult, rule: Rule) -> Report:
    """Returns the function with which a rule's check reports violations."""
    def report(line: int | None, message: str) -> None:
        result.add(rule, line, message)
    return report


def check_sets(results: list[FileResult]) -> None:
    """Applies the rules about sets, and adds their violations to the results.

    The logs of one folder and one dialect are a set; the ruleset of the first log applies. Logs
    of different divisions in one folder are one set, which NCF-SET-EQUAL rejects. It also rejects
    logs of other dialects next to MLLOG logs.

    Args:
      results: The results of `check_folder_log` for the logs of one or more folders.
    """
    sets: dict[tuple[Path, str | None], list[FileResult]] = {}
    for result in results:
        if result.ruleset is not None:
            sets.setdefault((Path(result.path).parent, result.dialect), []).append(result)
    for (folder, dialect), members in sets.items():
        with_mllog = sets.get((folder, "mllog"))
        if with_mllog and dialect != "mllog":
            rule = next(r for r in load_ruleset("ncf-open").rules if r.id == "NCF-SET-EQUAL")
            for member in members:
                member.add(rule, None, f"the log is in the dialect {dialect}; "
                           f"{Path(with_mllog[0].path).name} in the same folder is in MLLOG")
        logs = LogSet(folder, [
            SetMember(Path(m.path).name, m.set_values, m.sha256, m.content_sha256,
                      None if m.unreadable else m.summary, bool(m.errors)) for m in members])
        for rule in load_ruleset(members[0].ruleset).rules:
            if rule.is_about_set:
                def report(index: int, line: int | None, message: str, rule: Rule = rule,
                           members: list[FileResult] = members) -> None:
                    members[index].add(rule, line, message)
                SET_CHECKS[rule.check].judge(rule.params, logs, report)
