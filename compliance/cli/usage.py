"""Texts by which the command line teaches itself: examples of every verb, hints after a mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Iterable

EXAMPLE_SET = "results/laptop/ncf-ml-100k"
# The end of `--help` without a verb.
INTRODUCTION = f"""\
to begin with:
  %(prog)s check results
      whether the logs under a folder follow the rules
  %(prog)s score {EXAMPLE_SET}
      the time to train of one set of runs
  %(prog)s report {EXAMPLE_SET} --html report.html
      all of it as a page
  %(prog)s VERB --help
      what a verb takes, with examples

exit codes: 0 pass or answered; 1 wrong usage; 2 FAIL or no score; 3 a log
unreadable or incomplete"""

# For each verb its examples: (arguments after the verb, purpose of the call).
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "check": (("results", "every result_*.txt under it, and what makes it a set"),
              ("--ruleset ncf-v0.5-l2 result_0.txt", "by rules of your choice"),
              ("--format csv results > found.csv", "a row a violation, for a spreadsheet")),
    "score": ((EXAMPLE_SET, "the mean without the fastest and the slowest run"),
              (f"--ruleset ncf-v0.5-l2 {EXAMPLE_SET}", "only if it keeps those rules")),
    "report": ((EXAMPLE_SET, "verdict, times, hit rates and stages, run by run"),
               (f"{EXAMPLE_SET} --html report.html", "the same as a page for browsers"),
               (f"--format markdown {EXAMPLE_SET}", "to paste into a pull request")),
    "rules": (("", "all rulesets, each rule with its reason, fix and source"),
              ("ncf-closed", "one of them")),
    "compare": (("results/old/ncf-ml-100k results/new/ncf-ml-100k", "is the new one faster?"),
                ("A B --html compared.html", "side by side, as a page for browsers"),
                ("--fail_if_slower A B C", "each against A; exit code 2 where one is slower")),
    "convergence": ((EXAMPLE_SET, "fewer epochs than the reference runs make plausible?"),
                    ("results", "every set under a folder")),
    "trace": (("result_0.txt --output trace.json", "one run"),
              (f"{EXAMPLE_SET} --output trace.json", "a set: a process for each run")),
    "package": ((f"{EXAMPLE_SET} --output tree",
                 "what MLPerf takes, checked before it is written"),),
    "regress": (("BASELINE.json .benchmarks/latest.json", "after ./run_tests.sh --benchmarks"),
                ("--threshold 5% old.json new.json", "smaller changes count too")),
}  # fmt: skip


def program_name() -> str:
    """Returns the command as the user typed it: the module, or the console script."""
    module = sys.argv[0].endswith(os.path.join("compliance", "__main__.py"))
    return "python -m compliance" if module else "neumf-compliance"


def examples_epilog(verb: str) -> str:
    """Returns the examples of a verb, for the end of its `--help`.

    Args:
      verb: A key of EXAMPLES.
    """
    lines = ["examples:"]
    for arguments, purpose in EXAMPLES[verb]:
        # argparse formats the text: %(prog)s is to be replaced, every other % is literal.
        lines.append(f"  %(prog)s {arguments}".replace("%", "%%").replace("%%(prog)s", "%(prog)s"))
        lines.append(f"      {purpose}")
    return "\n".join(lines)


def correction_hint(message: str, flags: Iterable[str]) -> str:
    """Suggests the word that was probably meant.

    Args:
      message: An error message of argparse.
      flags: The flags that exist.

    Returns:
      "; did you mean ...?", to follow the message; "" where nothing is close enough.
    """
    wrong = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
    if wrong:
        return _suggest(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
    wrong = re.search(r"unrecognized arguments: .*?(--?[\w-]+)", message)
    return _suggest(wrong[1], flags) if wrong else ""


def _suggest(word: str, choices: Iterable[str]) -> str:
    """The hint with the choice that is spelled most like the word."""
    found = difflib.get_close_matches(word, choices, 1)
    return f"; did you mean {found[0]}?" if found else ""
