"""`python -m compliance VERB ...`: the verbs of the command line and their exit codes.

0: pass, or the verb gave an answer. 1: usage error or internal error. 2: FAIL (for
`score`: no score). 3: a log is unreadable or incomplete. `regress` also exits with 1 if the
recordings cannot be compared (another machine, too few processes).

Each verb has one function; it prints the answer and returns the exit code. Modules are
imported inside these functions, so that --help is fast.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Sequence

if TYPE_CHECKING:
    from pathlib import Path

from compliance.cli import requirements, shell_completion, usage

EXIT_OK, EXIT_ERROR, EXIT_FAIL, EXIT_UNREADABLE = 0, 1, 2, 3
EXIT_CODES = {"pass": EXIT_OK, "fail": EXIT_FAIL, "unreadable": EXIT_UNREADABLE}
REGRESS_EXIT_CODES = {"pass": EXIT_OK, "fail": EXIT_FAIL, "unresolved": EXIT_ERROR}
OUTPUT_FORMATS = ("table", "json", "csv", "markdown")
RULESET_NAMES = ("ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2")
TREE_RULESET = "submission-tree"
_DISTRIBUTION = "neumf-compliance"  # the prefix of every line on the error stream


class _ArgumentParser(argparse.ArgumentParser):
    """A parser that exits with 1 on wrong usage, after a one-line message with the remedy."""

    def error(self, message: str) -> NoReturn:
        flags = re.findall(r"--[a-z_-]+", "".join(
            sub.format_help() for action in self._actions
            if isinstance(action.choices, dict) for sub in action.choices.values()))
        hint = usage.correction_hint(message, flags)
        print(f"{self.prog}: {message}{hint} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(EXIT_ERROR)


def build_parser(program: str | None = None) -> argparse.ArgumentParser:
    """Builds the parser of the command line.

    Args:
      program: The program's name in help and errors; None for the name in use.

    Returns:
      The parser, with a subparser for each verb.
    """
    parser = _ArgumentParser(
        prog=program or usage.program_name(), allow_abbrev=False, epilog=usage.INTRODUCTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Validates NCF benchmark logs (MLLOG and MLPerf v0.5); reads v0.6 logs.")
    parser.add_argument(
        "--print-completion", metavar="SHELL", choices=shell_completion.SHELLS,
        help=f"print the completion script for {', '.join(shell_completion.SHELLS)}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add_verb(name: str, summary: str, has_formats: bool = True) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name, help=summary, description=summary, allow_abbrev=False,
            epilog=usage.examples_epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter)
        if has_formats:
            verb.add_argument("--format", choices=OUTPUT_FORMATS, default="table",
                              help="output format (default: table)")
        return verb

    _add_log_verbs(add_verb)
    _add_set_verbs(add_verb)
    _add_other_verbs(add_verb)
    return parser


def _add_log_verbs(add_verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds check, score, report and rules."""
    check = add_verb("check", "validate logs, and the result_*.txt under folders")
    check.add_argument("paths", nargs="+", metavar="PATH", help="a log, or a folder of logs")
    check.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto",
                       metavar="RULESET", help=f"{', '.join(RULESET_NAMES)}, or auto (default): "
                       "chosen by dialect and division of each log")
    score = add_verb("score", "score one set of runs")
    score.add_argument("dir", metavar="DIR", help="the folder of a set")
    score.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto",
                       metavar="RULESET", help="default: the log's own; level 1 for v0.5")
    report = add_verb("report", "report verdict, times, hit rates and score of each set")
    report.add_argument("dir", metavar="DIR", help="a folder with one or more sets")
    report.add_argument("--html", metavar="FILE", help="also write the report as a web page")
    rules = add_verb("rules", "print rulesets")
    names = (*RULESET_NAMES, TREE_RULESET)
    rules.add_argument("ruleset", nargs="?", metavar="RULESET", choices=names,
                       help=", ".join(names))


def _add_set_verbs(add_verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds compare, history and convergence."""
    compare = add_verb("compare", "compare the time to train of sets")
    compare.add_argument("dir_a", metavar="DIR_A", help="the folder of the baseline set")
    compare.add_argument("dirs_b", metavar="DIR_B", nargs="+",
                         help="the folders of the sets to compare with DIR_A")
    compare.add_argument("--fail_if_slower", action="store_true",
                         help="exit with 2 if a set is significantly slower")
    compare.add_argument("--html", metavar="FILE", help="also write the report as a web page")
    history = add_verb("history", "list the sets of each benchmark over time")
    history.add_argument("dir", metavar="DIR", help="results/<system>, or a folder around or in it")
    history.add_argument("--set_aside", action="store_true",
                         help="also list sets that never were a result: unfinished or failed")
    history.add_argument("--experiments", action="store_true", help="also list experiments")
    history.add_argument("--html", metavar="FILE", help="also write the history as a web page")
    convergence = add_verb("convergence", "check whether sets converged implausibly fast")
    convergence.add_argument("dir", metavar="DIR", help="a folder with one or more sets")


def _add_other_verbs(add_verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds trace, package and regress."""
    trace = add_verb("trace", "convert logs to a Chrome trace, for Perfetto",
                     has_formats=False)
    trace.add_argument("logs", nargs="+", metavar="LOG", help="a log, or a folder of logs")
    trace.add_argument("--output", metavar="FILE", required=True, help="the JSON file to write")
    package = add_verb("package", "write results as an MLPerf submission tree", has_formats=False)
    package.add_argument("dir", metavar="DIR",
                         help="results/<system>/<benchmark>, or a folder that contains it")
    package.add_argument("--output", metavar="TREE", required=True, help="the folder to create")
    package.add_argument("--source", metavar="DIR", help="the checkout of the source that goes into "
                         "the tree (default: the one that this program runs from)")
    regress = add_verb("regress", "check whether benchmarks got slower (pytest-benchmark files)")
    regress.add_argument("baseline", metavar="BASELINE.json", help="a file, or a folder of files")
    regress.add_argument("new", metavar="NEW.json", help="a file, or a folder of files")
    regress.add_argument("--threshold", default="10%", metavar="SHARE",
                         help="the slowdown that counts as a regression (default: 10%%)")


def _print(text: str) -> None:
    """Prints an answer; on a terminal the last line, the verdict, is coloured."""
    if sys.stdout.isatty():
        from compliance.base.terminal import colour_verdict
        start, line_end, last = text.rpartition("\n")
        text = start + line_end + colour_verdict(last, sys.stdout)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_error(text: str) -> None:
    """Prints one line for the user on the error stream."""
    print(f"{_DISTRIBUTION}: {text}", file=sys.stderr)


def _format_answer(output_format: str, answer: Any, format_text: Callable[[Any, str], str]) -> str:
    """Formats an answer as JSON, or with `format_text` in another format."""
    from compliance.report import tables

    return tables.to_json(answer.as_json()) if output_format == "json" \
        else format_text(answer, output_format)


def _check(args: argparse.Namespace) -> int:
    from pathlib import Path

    from compliance.checking.checker import check_paths
    from compliance.report.render import check_text

    result = check_paths(args.paths, args.ruleset)
    folders = [path for path in map(Path, args.paths) if path.is_dir()]
    if folders:
        from compliance.submission.tree_check import add_tree_results
        result = add_tree_results(args.paths, result)
    _print(_format_answer(args.format, result, check_text))
    _print_unread_files(folders)
    return EXIT_CODES[result.verdict]


def _print_unread_files(folders: list[Path]) -> None:
    """Names on the error stream the text files beside logs that `check` did not read."""
    from compliance.logs.find_logs import find_logs, unread_neighbours

    for folder in folders:
        unread = unread_neighbours(find_logs(folder))
        if unread:
            more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
            _print_error(f"not read: {unread[0]}{more}; in a folder, only result_*.txt is read")


def _score(args: argparse.Namespace) -> int:
    from compliance.report.render import score_text
    from compliance.results.scoring import score_folder

    score = score_folder(args.dir, None if args.ruleset == "auto" else args.ruleset)
    _print(_format_answer(args.format, score, score_text))
    if score.result.seconds is not None:
        return EXIT_OK
    return EXIT_UNREADABLE if score.verdict == "unreadable" else EXIT_FAIL


def _report(args: argparse.Namespace) -> int:
    from compliance.report.sets import build_report, report_text

    page_path = _html_path(args)
    report = build_report(args.dir)
    text = _format_answer(args.format, report, report_text)
    if page_path is None:
        _print(text)
        return EXIT_OK
    from compliance.report.html import page

    page.write_page(page_path, page.report_page(report, args.dir))
    verdict = report_text(report, "table").splitlines()[-1]
    _print_with_page_path(args.format, text, verdict, page_path)
    return EXIT_OK


def _compare(args: argparse.Namespace) -> int:
    from compliance.base.errors import UsageError
    from compliance.report import tables
    from compliance.report.comparison import comparisons_text, verdict_sentence
    from compliance.results.comparison import (
        SLOWER,
        compare_run_sets,
        comparisons_as_json,
    )
    from compliance.results.run_set import read_single_set

    page_path = _html_path(args)
    if page_path is not None and len(args.dirs_b) > 1:
        raise UsageError("--html compares exactly two sets; give two folders")
    first, *others = map(read_single_set, (args.dir_a, *args.dirs_b))
    comparisons = [compare_run_sets(first, other) for other in others]
    text = tables.to_json(comparisons_as_json(comparisons)) if args.format == "json" \
        else comparisons_text(comparisons, args.format)
    if page_path is None:
        _print(text)
    else:
        from compliance.report.html import page
        from compliance.results.scoring import score_checked_set

        scores = (score_checked_set(first.files), score_checked_set(others[0].files))
        page.write_page(page_path, page.comparison_page(comparisons[0], (first, others[0]), scores))
        _print_with_page_path(args.format, text, verdict_sentence(comparisons[0]), page_path)
    if any(comparison.has_unreadable_logs for comparison in comparisons):
        return EXIT_UNREADABLE
    is_slower = any(comparison.verdict == SLOWER for comparison in comparisons)
    return EXIT_FAIL if args.fail_if_slower and is_slower else EXIT_OK


def _history(args: argparse.Namespace) -> int:
    from compliance.history.timeline import build_history
    from compliance.report import tables
    from compliance.report.history.text import history_json, history_text, summary_sentence

    page_path = _html_path(args)
    history = build_history(args.dir, args.set_aside, args.experiments)
    text = tables.to_json(history_json(history)) if args.format == "json" \
        else history_text(history, args.format)
    if page_path is None:
        _print(text)
    else:
        from compliance.report.history.page import history_page
        from compliance.report.html.page import write_page

        write_page(page_path, history_page(history))
        _print_with_page_path(args.format, text, summary_sentence(history), page_path)
    return EXIT_UNREADABLE if history.has_unreadable_logs else EXIT_OK


def _html_path(args: argparse.Namespace) -> Path | None:
    """Returns the page's path; it is checked first, so that a wrong path fails early."""
    if args.html is None:
        return None
    from compliance.report.html import check_page_path

    return check_page_path(args.html)


def _print_with_page_path(output_format: str, text: str, verdict: str, path: Path) -> None:
    """Prints the answer, then the verdict with the path of the page.

    Other programs read JSON, CSV and Markdown, so with these formats the last line goes to the
    error stream.
    """
    last_line = f"{verdict}; report: {path}"
    if output_format == "table":
        lines = text.splitlines()
        _print("\n".join(lines[:-1] if lines[-1] == verdict else [*lines, ""])
               + f"\n{last_line}")
    else:
        _print(text)
        print(last_line, file=sys.stderr)


def _convergence(args: argparse.Namespace) -> int:
    from compliance.rcp.verdict import check_folder_convergence
    from compliance.report.convergence import convergence_text

    report = check_folder_convergence(args.dir)
    _print(_format_answer(args.format, report, convergence_text))
    if report.is_too_fast:
        return EXIT_FAIL
    return EXIT_UNREADABLE if report.has_unreadable_logs else EXIT_OK


def _trace(args: argparse.Namespace) -> int:
    from compliance.results.perfetto_trace import write_trace

    timelines = write_trace(args.logs, args.output)
    known = [timeline for timeline in timelines if timeline.dialect is not None]
    if known:
        counts = ((len(known), "run"), (sum(len(t.spans) for t in known), "interval"),
                  (sum(len(t.hit_rates) for t in known), "evaluation"))
        parts = (f"{number} {noun}{'s' * (number != 1)}" for number, noun in counts)
        _print(f"wrote {args.output}: {', '.join(parts)}")
    for timeline in timelines:
        if timeline.dialect is None:
            _print_error(f"{timeline.path}: it contains no record of a known dialect; give an "
                         "MLLOG, v0.5 or v0.6 log")
        elif timeline.run is None:
            _print_error(f"{timeline.path} is incomplete: run_start or run_stop is missing")
    return EXIT_OK if all(timeline.run is not None for timeline in timelines) else EXIT_UNREADABLE


def _package(args: argparse.Namespace) -> int:
    from compliance.submission.package import PackagingError, package_results, source_folder

    try:
        written = package_results(args.dir, args.output, source_folder(args.source))
    except PackagingError as error:
        for reason in error.reasons:
            _print_error(f"not packed: {reason}")
        return EXIT_CODES.get(error.verdict or "", EXIT_ERROR)
    _print(f"wrote {args.output}: {len(written.sets)} set{'s'[:len(written.sets) - 1]}, "
           f"{written.num_files} files")
    return EXIT_OK


def _rules(args: argparse.Namespace) -> int:
    from compliance.checking.ruleset import load_ruleset
    from compliance.report import render, tables
    from compliance.submission import tree_check

    names = [args.ruleset] if args.ruleset else [*RULESET_NAMES, TREE_RULESET]
    rulesets = [tree_check.tree_ruleset() if name == TREE_RULESET else load_ruleset(name)
                for name in names]
    _print(tables.to_json(render.rules_json(rulesets)) if args.format == "json"
           else render.rules_text(rulesets, args.format))
    return EXIT_OK


def _regress(args: argparse.Namespace) -> int:
    from compliance.regress.judge import compare_files, parse_threshold
    from compliance.regress.tables import regression_text

    report = compare_files(args.baseline, args.new, parse_threshold(args.threshold))
    _print(_format_answer(args.format, report, regression_text))
    return REGRESS_EXIT_CODES[report.verdict]


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": _check, "score": _score, "report": _report, "rules": _rules, "compare": _compare,
    "history": _history,
    "convergence": _convergence, "trace": _trace, "package": _package, "regress": _regress}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
      argv: The arguments; None for those of the process.

    Returns:
      The exit code. No exception leaves this function.
    """
    if hasattr(sys.stdout, "reconfigure"):
        # Paths and logs may contain characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        sys.stderr.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        parser = build_parser()
        parser.print_help(sys.stderr)
        _print_error(f"give a verb, for example: {parser.prog} check results")
        return EXIT_ERROR
    shell = shell_completion.requested_shell(argv)
    if shell:
        return shell_completion.print_script(build_parser(_DISTRIBUTION), shell)
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # 0 after --help, 1 after wrong usage
        return stop.code if isinstance(stop.code, int) else EXIT_ERROR
    missing = requirements.missing_packages()
    if missing is not None:
        _print_error(missing)
        return EXIT_ERROR
    return _run_verb(args)


def _run_verb(args: argparse.Namespace) -> int:
    """Runs the verb; converts every exception to a one-line message and an exit code."""
    try:
        return _VERBS[args.verb](args)
    except BrokenPipeError:
        sys.stderr.close()
    except KeyboardInterrupt:
        _print_error("interrupted")
    except ValueError as error:  # UsageError, TrackError, RulesetError: one line for the user
        _print_error(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _print_error(f"{where}cannot be read or written: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - the user never sees a traceback
        _print_error(f"internal error: {type(error).__name__}: {error}")
    return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
