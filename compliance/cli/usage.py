"""What the command line teaches: examples of every verb, and hints after a mistake."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import Iterable

SET = "results/laptop/ncf-ml-100k"
START = f"""\
to begin with:
  %(prog)s check results
      whether the logs under a folder follow the rules
  %(prog)s score {SET}
      the time to train of one set of runs
  %(prog)s report {SET} --html report.html
      all of it as a page
  %(prog)s VERB --help
      what a verb takes, with examples

exit codes: 0 pass or answered; 1 wrong usage; 2 FAIL or no score; 3 a log
unreadable or incomplete"""

# verb -> its examples: what follows the program's name, and what that is for
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "check": (("results", "every result_*.txt under it, and what makes it a set"),
              ("--ruleset ncf-v0.5-l2 result_0.txt", "by rules of your choice"),
              ("--format csv results > found.csv", "a row a violation, for a spreadsheet")),
    "score": ((SET, "the mean without the fastest and the slowest run"),
              (f"--ruleset ncf-v0.5-l2 {SET}", "only if it keeps those rules")),
    "report": ((SET, "verdict, times, hit rates and stages, run by run"),
               (f"{SET} --html report.html", "the same as a page for browsers"),
               (f"--format markdown {SET}", "to paste into a pull request")),
    "rules": (("", "all rulesets, each rule with its reason, fix and source"),
              ("ncf-closed", "one of them")),
    "compare": (("results/old/ncf-ml-100k results/new/ncf-ml-100k", "is the new one faster?"),
                ("A B --html compared.html", "side by side, as a page for browsers")),
    "convergence": ((SET, "fewer epochs than the reference runs make plausible?"),
                    ("results", "every set under a folder")),
    "trace": (("result_0.txt --output trace.json", "one run"),
              (f"{SET} --output trace.json", "a set: a process for each run")),
    "package": ((f"{SET} --output tree", "what MLPerf takes, checked before it is written"),),
    "regress": (("BASELINE.json .benchmarks/latest.json", "after ./run_tests.sh --benchmarks"),
                ("--threshold 5% old.json new.json", "smaller changes count too")),
}  # fmt: skip


def program() -> str:
    """What the user typed to get here."""
    module = sys.argv[0].endswith(os.path.join("compliance", "__main__.py"))
    return "python -m compliance" if module else "neumf-compliance"


def epilog(verb: str) -> str:
    """The examples of a verb, for the end of its --help."""
    lines = ["examples:"]
    for words, purpose in EXAMPLES[verb]:
        lines.append(f"  %(prog)s {words}".replace("%", "%%").replace("%%(prog)s", "%(prog)s"))
        lines.append(f"      {purpose}")
    return "\n".join(lines)


def hint(message: str, flags: Iterable[str]) -> str:
    """"; did you mean ...?" where argparse's message names what is close to a choice."""
    wrong = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
    if wrong:
        return _close(wrong[1], re.findall(r"[\w.-]+", wrong[2]))
    wrong = re.search(r"unrecognized arguments: .*?(--?[\w-]+)", message)
    return _close(wrong[1], flags) if wrong else ""


def _close(word: str, choices: Iterable[str]) -> str:
    found = difflib.get_close_matches(word, choices, 1)
    return f"; did you mean {found[0]}?" if found else ""
