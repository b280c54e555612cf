"""`check`: logs in, verdicts out.

Each file is read in one pass.  The first items are held back until they say which ruleset
holds (the division and the track stand at the top of a log).  Then all items go through the
summary and through the checks of the rules; nothing else is kept.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

from compliance.base.errors import UsageError
from compliance.base.text import format_value
from compliance.base.untrusted_files import read_bounded, unsafe_path_reason
from compliance.checking.checks import CHECKS, SET_CHECKS, Check, Context
from compliance.checking.checks.base import Report
from compliance.checking.checks.sets import LogSet, SetMember
from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Rule, Ruleset, load_ruleset
from compliance.logs.dialects import Event, Item, LogReader, Problem
from compliance.logs.find_logs import find_logs
from compliance.logs.run_summary import RunSummary
from compliance.tracks import BUILTIN_TRACKS, load_track

# So many items at most are held back before the ruleset is chosen.
MAX_HEAD_ITEMS = 1000
MAX_ENTRY_BYTES = 1 << 20
_BENCHMARK_FIX = "Judge NCF logs: MLLOG with submission_benchmark ncf, or v0.5 with benchmark ncf"


def check_paths(paths: Iterable[str | Path], ruleset: str = "auto") -> CheckResult:
    """Judges logs, and folders of logs together with the rules about sets.

    Args:
      paths: Logs, and folders; a folder stands for every result_*.txt under it.
      ruleset: The name of a ruleset; auto: by the dialect and the division of each log.

    Returns:
      The results in the order of the paths, and within a folder in natural order.

    Raises:
      UsageError: A path does not exist, or there is no log in a folder.
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
            raise UsageError(f"{path}: there is no such file or folder; give logs, or a "
                             "folder of them")
    names = {f.ruleset for f in files}
    return CheckResult(names.pop() if len(names) == 1 else None, files)


def check_folder_log(path: Path, ruleset: str = "auto") -> FileResult:
    """Judges a log that was found in a folder; refuses links that lead out of the folder.

    Args:
      path: The log.
      ruleset: As in `check_paths`.
    """
    reason = unsafe_path_reason(path)
    if reason is None:
        return check_file(path, ruleset)
    result = FileResult(str(path))
    _set_unreadable(result, reason, "Put the log itself there")
    return result


def check_file(path: str | Path, ruleset: str = "auto") -> FileResult:
    """Judges one log by the rules about single logs.

    Args:
      path: The log.
      ruleset: As in `check_paths`.

    Returns:
      The result; nothing that stands in the log raises an exception.
    """
    result = FileResult(str(path))
    reader = LogReader(path)
    try:
        _check_records(reader, result, ruleset)
    except OSError as error:
        _set_unreadable(result, f"cannot be read: {error.strerror or error}",
                        "Make the file readable")
        return result
    result.sha256 = reader.sha256
    return result


def _set_unreadable(result: FileResult, message: str, fix: str) -> None:
    result.unreadable = True
    result.errors.add("NCF-READ", None, message, fix)


def _check_records(reader: LogReader, result: FileResult, wanted: str) -> None:
    """Reads the log, chooses the ruleset and applies it; fills the result."""
    blocks = reader.blocks()
    head_blocks = _read_head(blocks)
    if reader.dialect is None:
        _set_unreadable(result, "there is no record of a known dialect in it",
                        "Give a log with records of :::MLLOG, :::MLPv0.5.0 or :::MLL")
        return
    result.dialect = reader.dialect.name
    result.summary = RunSummary(reader.dialect.name, reader.dialect.ticks_per_second)
    # The ruleset and the track are chosen by the records up to run_start.
    head_items = [item for items in head_blocks for item in items][:MAX_HEAD_ITEMS]
    end = next((i for i, item in enumerate(head_items) if item.key == "run_start"),
               len(head_items))
    head_events = [item for item in head_items[:end + 1] if isinstance(item, Event)]
    ruleset = _choose_ruleset(wanted, result, head_events)
    # From here on the log is read from its beginning, the blocks held back first.
    if ruleset is None:
        _summarize_without_rules(result, chain(head_blocks, blocks))
        return
    result.ruleset = ruleset.name
    _apply_rules(ruleset, result, _track_name(head_events), chain(head_blocks, blocks))
    result.unreadable = not result.summary.is_complete


def _read_head(blocks: Iterator[list[Item]]) -> list[list[Item]]:
    """The first blocks: up to the one with run_start, or at least MAX_HEAD_ITEMS items."""
    head: list[list[Item]] = []
    for items in blocks:
        head.append(items)
        if sum(map(len, head)) >= MAX_HEAD_ITEMS or any(item.key == "run_start" for item in items):
            break
    return head


def _summarize_without_rules(result: FileResult, blocks: Iterable[list[Item]]) -> None:
    """Where no rules hold: fills the summary, and warns of records that cannot be read."""
    for items in blocks:
        for item in items:
            if isinstance(item, Event):
                result.summary.observe(item)
            elif item.code != "line":
                result.warnings.add("NCF-RECORD", item.line, item.message,
                                    "Write one whole record a line")


def _first_value(events: list[Event], key: str) -> Any:
    """The value of the first event of a key, or None."""
    return next((event.value for event in events if event.key == key), None)


def _track_name(head_events: list[Event]) -> str | None:
    """The log's track, if it is a built-in one: a log never names a file."""
    name = _first_value(head_events, "track")
    return name if isinstance(name, str) and name in BUILTIN_TRACKS else None


def _choose_ruleset(wanted: str, result: FileResult, head_events: list[Event]) -> Ruleset | None:
    """The ruleset that holds for the log.

    None, with the violation NCF-BENCHMARK or NCF-DIALECT, where none does.
    """
    if result.dialect == "v0.5":
        benchmark = head_events[0].benchmark if head_events else "ncf"
        is_closed = _entry_division(Path(result.path)) == "closed"
        name = "ncf-v0.5-l2" if is_closed else "ncf-v0.5-l1"
    else:
        # A log without submission_benchmark is judged as one of ncf: a separate rule reports the
        # record as missing.
        benchmark = _first_value(head_events, "submission_benchmark")
        benchmark = "ncf" if benchmark is None else benchmark
        is_open = _first_value(head_events, "submission_division") == "open"
        name = "ncf-open" if is_open else "ncf-closed"
    if benchmark != "ncf" or result.dialect == "v0.6":
        what = f"of benchmark {format_value(benchmark)}" if benchmark != "ncf" \
            else "in the dialect of v0.6"
        result.errors.add("NCF-BENCHMARK", _benchmark_line(head_events),
                          f"the log is {what}, for which there are no rules here",
                          _BENCHMARK_FIX)
        return None
    ruleset = load_ruleset(name if wanted == "auto" else wanted)
    if ruleset.dialect != result.dialect:
        result.errors.add("NCF-DIALECT", None, f"ruleset {ruleset.name} judges {ruleset.dialect} "
                          f"logs; this one is {result.dialect}", "Choose --ruleset auto")
        return None
    return ruleset


def _benchmark_line(head_events: list[Event]) -> int | None:
    """The line of the first record that names a benchmark."""
    return next((e.line for e in head_events if e.key == "submission_benchmark" or e.benchmark),
                None)


def _entry_division(log: Path) -> str | None:
    """The division in the entry.json of a v0.5 submission: beside the log or one folder up."""
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
                 blocks: Iterable[list[Item]]) -> None:
    """Passes every item to the summary and to the checks of the rules."""
    summary = result.summary
    context = Context(load_track(track) if track else None, summary)
    checks: list[Check] = []
    # Checks of all items: they take whole blocks.
    block_checks: list[Check] = []
    reading_rules: dict[str, Rule] = {}  # by the code of a problem
    # The functions to call for an event of a key, and under None those for a problem.  This
    # loop decides the speed of `check`: a rule about few keys costs other records nothing.
    observers: dict[str | None, list[Callable[[Any], None]]] = {
        key: [summary.observe] for key in summary.KEYS}

    def add_problem(problem: Problem) -> None:
        if problem.code in reading_rules:
            result.add(reading_rules[problem.code], problem.line, problem.message)

    def keep_for_set(event: Event) -> None:
        result.set_values.setdefault(event.key, (event.value, event.line))

    observers[None] = [add_problem]
    for rule in ruleset.rules:
        if rule.is_about_set:
            # These rules are applied later, by `check_sets`; now only the values are kept.
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


def _reporter(result: FileResult, rule: Rule) -> Report:
    """The function by which a rule's check reports violations."""
    def report(line: int | None, message: str) -> None:
        result.add(rule, line, message)
    return report


def check_sets(results: list[FileResult]) -> None:
    """Applies the rules about sets, and adds their violations to the results.

    The logs of one folder and one dialect are a set, judged by the ruleset of the first of
    them.  Logs of several divisions in one folder are one set, which NCF-SET-EQUAL refuses.

    Args:
      results: The results of the logs of one or several folders, by `check_folder_log`.
    """
    sets: dict[tuple[Path, str | None], list[FileResult]] = {}
    for result in results:
        if result.ruleset is not None:
            sets.setdefault((Path(result.path).parent, result.dialect), []).append(result)
    for (folder, _), members in sets.items():
        logs = LogSet(folder, [SetMember(Path(m.path).name, m.set_values, m.sha256)
                               for m in members])
        for rule in load_ruleset(members[0].ruleset).rules:
            if rule.is_about_set:
                def report(index: int, line: int | None, message: str, rule: Rule = rule,
                           members: list[FileResult] = members) -> None:
                    members[index].add(rule, line, message)
                SET_CHECKS[rule.check].judge(rule.params, logs, report)
