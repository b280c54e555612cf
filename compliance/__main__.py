"""`python -m compliance VERB ...`: the verbs and their exit codes.

0: pass, or the question was answered.  1: usage or internal error.  2: FAIL (for
`score`: no score).  3: a log could not be read or is incomplete.  `regress`: 1 also
where the recordings cannot answer (another machine, too few processes).
Imports late, so that --help is quick.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, NoReturn, Sequence

if TYPE_CHECKING:
    from pathlib import Path

from compliance.cli import shell_completion, usage

OK, ERROR, FAILED, UNREADABLE = 0, 1, 2, 3
FORMATS = ("table", "json", "csv", "markdown")
RULESET_NAMES = ("ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2")
TREE_RULESET = "submission-tree"
EXITS = {"pass": OK, "fail": FAILED, "unreadable": UNREADABLE}
REGRESS_EXITS = {"pass": OK, "fail": FAILED, "unresolved": ERROR}


class _Parser(argparse.ArgumentParser):
    """argparse that exits with 1 on wrong usage, in one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        flags = re.findall(r"--[a-z-]+", "".join(
            sub.format_help() for action in self._actions
            if isinstance(action.choices, dict) for sub in action.choices.values()))
        print(f"{self.prog}: {message}{usage.hint(message, flags)} (see {self.prog} --help)",
              file=sys.stderr)
        raise SystemExit(ERROR)


def _parser(program: str | None = None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program or usage.program(), allow_abbrev=False, epilog=usage.START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges NCF benchmark logs: MLLOG and MLPerf v0.5; reads v0.6.")
    parser.add_argument("--print-completion", metavar="SHELL", choices=shell_completion.SHELLS,
                        help=f"for {', '.join(shell_completion.SHELLS)}: what the shell completes with")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, form: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=text, description=text, allow_abbrev=False, epilog=usage.epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter)
        if form:
            sub.add_argument("--format", choices=FORMATS, default="table",
                             help="how the answer is printed (default: table)")
        return sub

    check = verb("check", "judge logs, and the result_*.txt under folders")
    check.add_argument("paths", nargs="+", metavar="PATH", help="a log, or a folder of logs")
    check.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto",
                       metavar="RULESET", help=f"{', '.join(RULESET_NAMES)}, or auto (default): "
                       "by dialect and division of each log")
    score = verb("score", "score one set of runs")
    score.add_argument("dir", metavar="DIR", help="the folder of a set")
    score.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto",
                       metavar="RULESET", help="default: the log's own; level 1 for v0.5")
    report = verb("report", "verdict, times, hit rates and score of each set under a folder")
    report.add_argument("dir", metavar="DIR", help="a folder with one set or several")
    report.add_argument("--html", metavar="FILE", help="also write it as a page for browsers")
    rules = verb("rules", "print rulesets")
    names = (*RULESET_NAMES, TREE_RULESET)
    rules.add_argument("ruleset", nargs="?", metavar="RULESET", choices=names,
                       help=", ".join(names))
    compare = verb("compare", "whether the set in DIR_B is faster than that in DIR_A")
    compare.add_argument("dir_a", metavar="DIR_A", help="the set that is compared with")
    compare.add_argument("dir_b", metavar="DIR_B", help="the set that the answer is about")
    compare.add_argument("--html", metavar="FILE", help="also write it as a page for browsers")
    convergence = verb("convergence", "whether sets converged faster than the reference allows")
    convergence.add_argument("dir", metavar="DIR", help="a folder with one set or several")
    trace = verb("trace", "write logs as a Chrome trace (Perfetto opens it)", form=False)
    trace.add_argument("logs", nargs="+", metavar="LOG", help="a log, or a folder of logs")
    trace.add_argument("--output", metavar="FILE", required=True, help="the trace, JSON")
    package = verb("package", "write results as an MLPerf submission tree", form=False)
    package.add_argument("dir", metavar="DIR", help="results/<system>/<benchmark>, or above")
    package.add_argument("--output", metavar="TREE", required=True, help="a folder to be made")
    regress = verb("regress", "whether benchmarks got slower (pytest-benchmark files)")
    regress.add_argument("baseline", metavar="BASELINE.json", help="a file, or a folder of files")
    regress.add_argument("new", metavar="NEW.json", help="a file, or a folder of files")
    regress.add_argument("--threshold", default="10%", metavar="SHARE",
                         help="how much slower is a regression (default: 10%%)")
    return parser


def _print(text: str) -> None:
    if sys.stdout.isatty():
        from compliance.base.terminal import painted
        start, line_end, last = text.rpartition("\n")
        text = start + line_end + painted(last, sys.stdout)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    print(f"neumf-compliance: {text}", file=sys.stderr)


def _check(args: argparse.Namespace) -> int:
    from pathlib import Path

    from compliance.checking.checker import check_paths
    from compliance.report import render, tables

    result = check_paths(args.paths, args.ruleset)
    if any(Path(path).is_dir() for path in args.paths):
        from compliance.submission.tree_check import with_trees
        result = with_trees(args.paths, result)
    _print(tables.as_json(result.as_json()) if args.format == "json"
           else render.check_text(result, args.format))
    return EXITS[result.verdict]


def _score(args: argparse.Namespace) -> int:
    from compliance.report import render, tables
    from compliance.results.scoring import score_folder

    score = score_folder(args.dir, None if args.ruleset == "auto" else args.ruleset)
    _print(tables.as_json(score.as_json()) if args.format == "json"
           else render.score_text(score, args.format))
    if score.outcome.seconds is not None:
        return OK
    return UNREADABLE if score.verdict == "unreadable" else FAILED


def _report(args: argparse.Namespace) -> int:
    from compliance.report import tables
    from compliance.report.sets import make_report, report_text

    path = _html_path(args)
    report = make_report(args.dir)
    text = tables.as_json(report.as_json()) if args.format == "json" \
        else report_text(report, args.format)
    if path is None:
        _print(text)
        return OK
    from compliance.report.html import page

    page.write_page(path, page.report_page(report, args.dir))
    _print_with_page(args, text, report_text(report, "table").splitlines()[-1], path)
    return OK


def _compare(args: argparse.Namespace) -> int:
    from compliance.report import answers, tables
    from compliance.results.comparison import compare_sets
    from compliance.results.run_set import read_one_set

    path = _html_path(args)
    sets = (read_one_set(args.dir_a), read_one_set(args.dir_b))
    answer = compare_sets(*sets)
    text = tables.as_json(answer.as_json()) if args.format == "json" \
        else answers.comparison_text(answer, args.format)
    if path is None:
        _print(text)
    else:
        from compliance.report.html import page
        from compliance.results.scoring import score_judged

        scores = (score_judged(sets[0].files), score_judged(sets[1].files))
        page.write_page(path, page.comparison_page(answer, sets, scores))
        _print_with_page(args, text, answers.verdict_line(answer), path)
    return UNREADABLE if answer.unreadable else OK


def _html_path(args: argparse.Namespace) -> Path | None:
    """Where the page goes; before anything is read, so that a wrong name costs nothing."""
    if args.html is None:
        return None
    from compliance.report.html import check_possible

    return check_possible(args.html)


def _print_with_page(args: argparse.Namespace, text: str, verdict: str, path: Path) -> None:
    """The text, and last the verdict and where the page is.

    What programs read stays as it is: there that line goes to the error stream.
    """
    last = f"{verdict}; report: {path}"
    if args.format == "table":
        lines = text.splitlines()
        _print("\n".join(lines[:-1] if lines[-1] == verdict else [*lines, ""]) + f"\n{last}")
    else:
        _print(text)
        print(last, file=sys.stderr)


def _convergence(args: argparse.Namespace) -> int:
    from compliance.rcp.verdict import judge_folder
    from compliance.report import answers, tables

    answer = judge_folder(args.dir)
    _print(tables.as_json(answer.as_json()) if args.format == "json"
           else answers.convergence_text(answer, args.format))
    return FAILED if answer.too_fast else UNREADABLE if answer.unreadable else OK


def _trace(args: argparse.Namespace) -> int:
    from compliance.results.perfetto_trace import write_trace

    lines = write_trace(args.logs, args.output)
    known = [line for line in lines if line.dialect is not None]
    if known:
        _print(f"wrote {args.output}: {len(known)} trial{'s'[:len(known) - 1]}, "
               f"{sum(len(line.spans) for line in known)} intervals, "
               f"{sum(len(line.hit_rates) for line in known)} evaluations")
    for line in lines:
        if line.dialect is None:
            _complain(f"{line.path}: there is no record of a known dialect in it; give a log of "
                      "MLLOG, v0.5 or v0.6")
        elif line.run is None:
            _complain(f"{line.path} is incomplete: no run_start and run_stop")
    return OK if all(line.run is not None for line in lines) else UNREADABLE


def _package(args: argparse.Namespace) -> int:
    from compliance.submission.package import Refused, package

    try:
        packed = package(args.dir, args.output)
    except Refused as refused:
        for reason in refused.reasons:
            print(f"neumf-compliance: not packed: {reason}", file=sys.stderr)
        return EXITS.get(refused.verdict or "", ERROR)
    _print(f"wrote {args.output}: {len(packed.sets)} set{'s'[:len(packed.sets) - 1]}, "
           f"{packed.files} files")
    return OK


def _rules(args: argparse.Namespace) -> int:
    from compliance.checking.ruleset import load_ruleset
    from compliance.report import render, tables
    from compliance.submission import tree_check

    names = [args.ruleset] if args.ruleset else [*RULESET_NAMES, TREE_RULESET]
    rulesets = [tree_check.ruleset() if n == TREE_RULESET else load_ruleset(n) for n in names]
    _print(tables.as_json(render.rules_json(rulesets)) if args.format == "json"
           else render.rules_text(rulesets, args.format))
    return OK


def _regress(args: argparse.Namespace) -> int:
    from compliance.regress.judge import compare_files, parse_threshold
    from compliance.regress.tables import judgement_text
    from compliance.report import tables

    answer = compare_files(args.baseline, args.new, parse_threshold(args.threshold))
    _print(tables.as_json(answer.as_json()) if args.format == "json"
           else judgement_text(answer, args.format))
    return REGRESS_EXITS[answer.verdict]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        sys.stderr.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        parser = _parser()
        parser.print_help(sys.stderr)
        _complain(f"say what to do, such as: {parser.prog} check results")
        return ERROR
    shell = shell_completion.asked(argv)
    if shell:
        return shell_completion.print_for(_parser("neumf-compliance"), shell)
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # --help is 0, everything else is usage
        return stop.code if isinstance(stop.code, int) else ERROR
    verbs = {"check": _check, "score": _score, "report": _report, "rules": _rules,
             "compare": _compare, "convergence": _convergence, "trace": _trace,
             "package": _package, "regress": _regress}
    try:
        return verbs[args.verb](args)
    except BrokenPipeError:
        sys.stderr.close()
        return ERROR
    except KeyboardInterrupt:
        print("neumf-compliance: interrupted", file=sys.stderr)
        return ERROR
    except ValueError as error:  # UsageError, TrackError, RulesetError: one line for the user
        print(f"neumf-compliance: {error}", file=sys.stderr)
        return ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}cannot be read or written: {error.strerror or error}")
        return ERROR
    except Exception as error:  # noqa: BLE001 - never a traceback
        print(f"neumf-compliance: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        return ERROR


def console() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    console()
