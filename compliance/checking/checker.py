"""`check`: logs in, verdicts out.

One pass over each file.  The first records are held back until they say which
ruleset holds (the division and the track stand at the top of a log), then all go
through the facts and the checks; nothing else is kept.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import read_bounded, why_no_member
from compliance.checking.checks import CHECKS, SET_CHECKS, Check, Context
from compliance.checking.checks.sets import LogSet, Member
from compliance.checking.results import CheckResult, FileResult
from compliance.checking.ruleset import Rule, Ruleset, load_ruleset
from compliance.logs.dialects import Event, Item, LogReader, Problem
from compliance.logs.dialects.event import show
from compliance.logs.find_logs import find_logs
from compliance.logs.run_summary import RunFacts
from compliance.tracks import BUILTIN_TRACKS, load_track

# Records held back at most before the ruleset is chosen.
HEAD = 1000
MAX_ENTRY = 1 << 20
_BENCHMARK_FIX = "Judge NCF logs: MLLOG with submission_benchmark ncf, or v0.5 with benchmark ncf"


def check_paths(paths: Iterable[str | Path], ruleset: str = "auto") -> CheckResult:
    """Judges files, and folders with their rules about sets.  Raises UsageError."""
    files: list[FileResult] = []
    for path in map(Path, paths):
        if path.is_dir():
            results = [check_member(log, ruleset) for log in find_logs(path)]
            check_sets(results)
            files += results
        elif path.exists():
            files.append(check_file(path, ruleset))
        else:
            raise UsageError(f"{path}: there is no such file or folder; give logs, or a "
                             "folder of them")
    names = {f.ruleset for f in files}
    return CheckResult(names.pop() if len(names) == 1 else None, files)


def check_member(path: Path, ruleset: str = "auto") -> FileResult:
    """Judges a log that was found in a folder, as `check_file`; no link leads out of it."""
    problem = why_no_member(path)
    if problem is None:
        return check_file(path, ruleset)
    result = FileResult(str(path))
    _cannot_be_read(result, problem, "Put the log itself there")
    return result


def check_file(path: str | Path, ruleset: str = "auto") -> FileResult:
    """Judges one log; never raises for what stands in it."""
    result = FileResult(str(path))
    reader = LogReader(path)
    try:
        _judge(reader, result, ruleset)
    except OSError as error:
        _cannot_be_read(result, f"cannot be read: {error.strerror or error}",
                        "Make the file readable")
        return result
    result.sha256 = reader.sha256
    return result


def _cannot_be_read(result: FileResult, message: str, fix: str) -> None:
    result.unreadable = True
    result.errors.add("NCF-READ", None, message, fix)


def _judge(reader: LogReader, result: FileResult, wanted: str) -> None:
    blocks = reader.blocks()
    head = _head(blocks)
    if reader.dialect is None:
        _cannot_be_read(result, "there is no record of a known dialect in it",
                        "Give a log with records of :::MLLOG, :::MLPv0.5.0 or :::MLL")
        return
    result.dialect = reader.dialect.name
    result.facts = RunFacts(reader.dialect.name, reader.dialect.ticks)
    told = [item for items in head for item in items][:HEAD]
    end = next((i for i, item in enumerate(told) if item.key == "run_start"), len(told))
    events = [item for item in told[:end + 1] if isinstance(item, Event)]
    ruleset = _choose(wanted, result, events)
    if ruleset is None:
        _report_only(result, chain(head, blocks))
        return
    result.ruleset = ruleset.name
    _run(ruleset, result, _track_name(events), chain(head, blocks))
    result.unreadable = not result.facts.complete


def _head(blocks: Iterator[list[Item]]) -> list[list[Item]]:
    """The first blocks: up to where the log has said what it is, or HEAD items."""
    head: list[list[Item]] = []
    for items in blocks:
        head.append(items)
        if sum(map(len, head)) >= HEAD or any(item.key == "run_start" for item in items):
            break
    return head


def _report_only(result: FileResult, blocks: Iterable[list[Item]]) -> None:
    """Where no rules hold: what the log says, and what of it could not be read."""
    for items in blocks:
        for item in items:
            if isinstance(item, Event):
                result.facts.see(item)
            elif item.code != "line":
                result.warnings.add("NCF-RECORD", item.line, item.message,
                                    "Write one whole record a line")


def _first(head: list[Event], key: str) -> Any:
    return next((event.value for event in head if event.key == key), None)


def _track_name(head: list[Event]) -> str | None:
    """The log's track if it is a built-in one: a log never names a file."""
    name = _first(head, "track")
    return name if isinstance(name, str) and name in BUILTIN_TRACKS else None


def _choose(wanted: str, result: FileResult, head: list[Event]) -> Ruleset | None:
    """The ruleset that holds; None (and NCF-BENCHMARK or NCF-DIALECT) where none does."""
    if result.dialect == "v0.5":
        benchmark = head[0].benchmark if head else "ncf"
        name = "ncf-v0.5-l2" if _entry_division(Path(result.path)) == "closed" else "ncf-v0.5-l1"
    else:
        benchmark = _first(head, "submission_benchmark")
        benchmark = "ncf" if benchmark is None else benchmark
        name = "ncf-open" if _first(head, "submission_division") == "open" else "ncf-closed"
    if benchmark != "ncf" or result.dialect == "v0.6":
        what = f"of benchmark {show(benchmark)}" if benchmark != "ncf" else "in the dialect of v0.6"
        result.errors.add("NCF-BENCHMARK", _line_of_benchmark(head),
                          f"the log is {what}, for which there are no rules here",
                          _BENCHMARK_FIX)
        return None
    ruleset = load_ruleset(name if wanted == "auto" else wanted)
    if ruleset.dialect != result.dialect:
        result.errors.add("NCF-DIALECT", None, f"ruleset {ruleset.name} judges {ruleset.dialect} "
                          f"logs; this one is {result.dialect}", "Choose --ruleset auto")
        return None
    return ruleset


def _line_of_benchmark(head: list[Event]) -> int | None:
    return next((e.line for e in head if e.key == "submission_benchmark" or e.benchmark), None)


def _entry_division(log: Path) -> str | None:
    """The division in an entry.json in the log's folder or the one above."""
    folder = log.absolute().parent
    for place in (folder, folder.parent):
        try:
            data = read_bounded(place / "entry.json", MAX_ENTRY)
            entry = json.loads(data.decode("utf-8", "replace"))
        except (OSError, ValueError, RecursionError):
            continue
        division = entry.get("division") if isinstance(entry, dict) else None
        return division.strip().lower() if isinstance(division, str) else None
    return None


def _run(ruleset: Ruleset, result: FileResult, track: str | None,
         blocks: Iterable[list[Item]]) -> None:
    facts = result.facts
    context = Context(load_track(track) if track else None, facts, facts.ticks)
    checks: list[Check] = []
    every: list[Check] = []
    reading: dict[str, Rule] = {}
    # What is called for an item of a key (None: a problem). A rule about few keys costs
    # the others nothing.
    seers: dict[str | None, list[Callable[[Any], None]]] = {
        key: [facts.see] for key in facts.WANTED}

    def problem(item: Problem) -> None:
        if item.code in reading:
            result.add(reading[item.code], item.line, item.message)

    def keep(event: Event) -> None:
        result.set_values.setdefault(event.key, (event.value, event.line))

    seers[None] = [problem]
    for rule in ruleset.rules:
        if rule.of_set:
            for key in SET_CHECKS[rule.check].wants(rule.params):
                seers.setdefault(key, []).append(keep)
            continue
        if rule.check == "reading":
            reading.update(dict.fromkeys(rule.params["problems"], rule))
        check = CHECKS[rule.check](rule.params, context, _reporter(result, rule))
        checks.append(check)
        if check.keys is None:
            every.append(check)
        for key in dict.fromkeys(check.keys or ()):
            seers.setdefault(key, []).append(check.see)
    get = seers.get
    for items in blocks:
        for check in every:
            check.see_all(items)
        for item in items:
            for see in get(item.key, ()):
                see(item)
    for check in checks:
        check.end()


def _reporter(result: FileResult, rule: Rule) -> Any:
    def report(line: int | None, message: str) -> None:
        result.add(rule, line, message)
    return report


def check_sets(results: list[FileResult]) -> None:
    """Adds the violations of the rules about sets: logs of one folder and dialect.

    Logs of several divisions in one folder are one set, which NCF-SET-EQUAL refuses.
    """
    groups: dict[tuple[Path, str | None], list[FileResult]] = {}
    for result in results:
        if result.ruleset is not None:
            groups.setdefault((Path(result.path).parent, result.dialect), []).append(result)
    for (folder, _), members in groups.items():
        known = LogSet(folder, [Member(Path(m.path).name, m.set_values, m.sha256)
                                for m in members])
        for rule in load_ruleset(members[0].ruleset).rules:
            if rule.of_set:
                def report(index: int, line: int | None, message: str, rule: Rule = rule,
                           members: list[FileResult] = members) -> None:
                    members[index].add(rule, line, message)
                SET_CHECKS[rule.check].judge(rule.params, known, report)
