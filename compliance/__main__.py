"""`python -m compliance VERB ...`: the verbs and their exit codes.

0: pass, or the question was answered.  1: usage or internal error.  2: FAIL (for
`score`: no score).  3: a log could not be read or is incomplete.
Imports late, so that --help is quick.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn, Sequence

OK, ERROR, FAILED, UNREADABLE = 0, 1, 2, 3
FORMATS = ("table", "json", "csv", "markdown")
RULESET_NAMES = ("ncf-closed", "ncf-open", "ncf-v0.5-l1", "ncf-v0.5-l2")
EXITS = {"pass": OK, "fail": FAILED, "unreadable": UNREADABLE}
LATER = {"compare": "whether one set of runs is faster than another",
         "convergence": "whether a set converged faster than the reference allows",
         "trace": "a log as a Chrome trace", "package": "an MLPerf submission tree",
         "regress": "whether benchmarks got slower"}


class _Parser(argparse.ArgumentParser):
    """argparse that exits with 1 on wrong usage, in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(ERROR)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="neumf-compliance", allow_abbrev=False,
        description="Judges NCF benchmark logs: MLLOG and MLPerf v0.5.",
        epilog="Exit codes: 0 pass or answered; 1 wrong usage; 2 FAIL or no score; "
               "3 a log unreadable or incomplete.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str, form: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        if form:
            sub.add_argument("--format", choices=FORMATS, default="table")
        return sub

    check = verb("check", "judge logs, and the result_*.txt under folders")
    check.add_argument("paths", nargs="+", metavar="PATH")
    check.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto")
    score = verb("score", "score one set of runs")
    score.add_argument("dir", metavar="DIR")
    score.add_argument("--ruleset", choices=("auto", *RULESET_NAMES), default="auto",
                       help="default: the log's own; level 1 for v0.5")
    report = verb("report", "verdict, times, hit rates and score of each set under a folder")
    report.add_argument("dir", metavar="DIR")
    report.add_argument("--html", metavar="FILE", help="not available yet")
    rules = verb("rules", "print rulesets")
    rules.add_argument("ruleset", nargs="?", metavar="RULESET", choices=RULESET_NAMES,
                       help=", ".join(RULESET_NAMES))
    for name, text in LATER.items():
        verb(name, f"{text} (not available yet)", form=False).add_argument(
            "rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _check(args: argparse.Namespace) -> int:
    from compliance.checker import check_paths
    from compliance.report import render, tables

    result = check_paths(args.paths, args.ruleset)
    _print(tables.as_json(result.as_json()) if args.format == "json"
           else render.check_text(result, args.format))
    return EXITS[result.verdict]


def _score(args: argparse.Namespace) -> int:
    from compliance.report import render, tables
    from compliance.scoring import score_folder

    score = score_folder(args.dir, None if args.ruleset == "auto" else args.ruleset)
    _print(tables.as_json(score.as_json()) if args.format == "json"
           else render.score_text(score, args.format))
    if score.outcome.seconds is not None:
        return OK
    return UNREADABLE if score.verdict == "unreadable" else FAILED


def _report(args: argparse.Namespace) -> int:
    from pathlib import Path

    from compliance.checker import UsageError, check_paths
    from compliance.report import render, tables
    from compliance.scoring import score_folder

    if args.html:
        raise UsageError("report --html is not available yet; use --format markdown")
    if not Path(args.dir).is_dir():
        raise UsageError(f"{args.dir}: there is no such folder")
    result = check_paths([args.dir])
    groups: dict[str, list[Any]] = {}
    for file in result.files:
        groups.setdefault(str(Path(file.path).parent), []).append(file)
    sets = [(path, files, score_folder(path)) for path, files in groups.items()]
    _print(tables.as_json(render.report_json(result, sets)) if args.format == "json"
           else render.report_text(result, sets, args.format))
    return OK


def _rules(args: argparse.Namespace) -> int:
    from compliance.report import render, tables
    from compliance.ruleset import load_ruleset

    rulesets = [load_ruleset(n) for n in ([args.ruleset] if args.ruleset else RULESET_NAMES)]
    _print(tables.as_json(render.rules_json(rulesets)) if args.format == "json"
           else render.rules_text(rulesets, args.format))
    return OK


def _later(args: argparse.Namespace) -> int:
    print(f"neumf-compliance {args.verb}: not available yet", file=sys.stderr)
    return ERROR


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
        sys.stderr.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:  # --help is 0, everything else is usage
        return stop.code if isinstance(stop.code, int) else ERROR
    verbs = {"check": _check, "score": _score, "report": _report, "rules": _rules}
    try:
        return verbs.get(args.verb, _later)(args)
    except BrokenPipeError:
        sys.stderr.close()
        return ERROR
    except KeyboardInterrupt:
        print("neumf-compliance: interrupted", file=sys.stderr)
        return ERROR
    except ValueError as error:  # UsageError, TrackError, RulesetError: one line for the user
        print(f"neumf-compliance: {error}", file=sys.stderr)
        return ERROR
    except Exception as error:  # noqa: BLE001 - never a traceback
        print(f"neumf-compliance: internal error: {type(error).__name__}: {error}", file=sys.stderr)
        return ERROR


def console() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    console()
