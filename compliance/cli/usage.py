"""Help texts of the command line: examples of every verb, and hints after a mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Iterable

EXAMPLE_SET = "results/laptop/ncf-ml-100k"
# The epilog of `--help` without a verb.
INTRODUCTION = f"""\
getting started:
  %(prog)s check results
      check the logs under a folder against the rules
  %(prog)s score {EXAMPLE_SET}
      time to train of one set of runs
  %(prog)s report {EXAMPLE_SET} --html report.html
      verdicts, times and plots as a web page
  %(prog)s VERB --help
      arguments and examples of a verb

exit codes: 0 compliant or answered; 1 usage error; 2 not compliant or no score;
3 a log is unreadable or incomplete"""

# Examples of each verb: (arguments after the verb, purpose of the call).
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "check": (("results", "every result_*.txt in it, and the rules about sets"),
              ("--ruleset ncf-v0.5-l2 result_0.txt", "with a ruleset of your choice"),
              ("--format csv results > found.csv", "one row per violation, for a spreadsheet")),
    "score": ((EXAMPLE_SET, "mean time without the fastest and the slowest run"),
              (f"--ruleset ncf-v0.5-l2 {EXAMPLE_SET}", "a score only if that ruleset passes")),
    "report": ((EXAMPLE_SET, "verdict, times, hit rates and stages of each run"),
               (f"{EXAMPLE_SET} --html report.html", "the same as a web page"),
               (f"--format markdown {EXAMPLE_SET}", "as Markdown, for a pull request")),
    "rules": (("", "all rulesets: each rule with reason, fix and source"),
              ("ncf-closed", "one ruleset")),
    "compare": (("results/old/ncf-ml-100k results/new/ncf-ml-100k", "is the new set faster?"),
                ("A B --html compared.html", "both sets side by side, as a web page"),
                ("--fail_if_slower A B C", "B and C against A; exit code 2 if one is slower")),
    "history": (("results/laptop", "every result so far, with the steps between them"),
                ("results/laptop --html history.html", "the same with a plot over time"),
                ("--experiments --format csv results > sets.csv", "for a spreadsheet")),
    "convergence": ((EXAMPLE_SET, "are the epochs plausible, given the reference runs?"),
                    ("results", "every set under a folder")),
    "trace": (("result_0.txt --output trace.json", "one run"),
              (f"{EXAMPLE_SET} --output trace.json", "a set: one process per run")),
    "package": ((f"{EXAMPLE_SET} --output tree",
                 "an MLPerf submission tree, checked before it is written"),
                (f"{EXAMPLE_SET} --output tree --source .",
                 "from an installed package, with a checkout of the source")),
    "regress": (("BASELINE.json .benchmarks/latest.json", "after ./run_tests.sh --benchmarks"),
                ("--threshold 5% old.json new.json", "with a lower threshold")),
}  # fmt: skip


# Exit codes by verb. Code 1 means a usage error unless listed.
_UNREADABLE_LOG = {3: "a log is unreadable or incomplete"}
EXIT_CODES: dict[str, dict[int, str]] = {
    "check": {0: "every log is compliant", 2: "a log is not", **_UNREADABLE_LOG},
    "score": {0: "there is a score", 2: "there is no score", **_UNREADABLE_LOG},
    "report": {0: "reported, whatever the verdict"},
    "rules": {0: "printed"},
    "compare": {0: "compared", 2: "a set is slower (only with --fail_if_slower)",
                **_UNREADABLE_LOG},
    "history": {0: "listed", **_UNREADABLE_LOG},
    "convergence": {0: "plausible, or undecided", 2: "too fast", **_UNREADABLE_LOG},
    "trace": {0: "written", **_UNREADABLE_LOG},
    "package": {0: "written", 2: "a set fails its check", **_UNREADABLE_LOG},
    "regress": {0: "no benchmark got slower", 1: "usage error, or the noise permits no verdict",
                2: "a benchmark got slower"},
}  # fmt: skip


def program_name() -> str:
    """Returns the name of the command in use: the module or the console script."""
    module = sys.argv[0].endswith(os.path.join("compliance", "__main__.py"))
    return "python -m compliance" if module else "neumf-compliance"


def examples_epilog(verb: str) -> str:
    """Returns the examples of a verb, for the end of its `--help`.

    Args:
      verb: A key of EXAMPLES.
    """
    lines = ["examples:"]
    for arguments, purpose in EXAMPLES[verb]:
        # argparse formats the text: it replaces %(prog)s; every other % must be escaped.
        lines.append(f"  %(prog)s {arguments}".replace("%", "%%").replace("%%(prog)s", "%(prog)s"))
        lines.append(f"      {purpose}")
    codes = {1: "usage error", **EXIT_CODES[verb]}
    lines += ["", "exit codes:", *(f"  {code}  {codes[code]}" for code in sorted(codes))]
    return "\n".join(lines)


def correction_hint(message: str, flags: Iterable[str]) -> str:
    """Suggests the flag or choice that the user probably meant.

    Args:
      message: An error message of argparse.
      flags: The flags that exist.

    Returns:
      "; did you mean ...?", to append to the message; "" if no name is close enough.
    """
    wrong = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
    if wrong:
        return _suggest(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
    wrong = re.search(r"unrecognized arguments: .*?(--?[\w-]+)", message)
    return _suggest(wrong[1], flags) if wrong else ""


def _suggest(word: str, choices: Iterable[str]) -> str:
    """Returns the hint with the choice whose spelling is closest to the word."""
    found = difflib.get_close_matches(word, choices, 1)
    return f"; did you mean {found[0]}?" if found else ""
