"""Runs the commands of the documentation and prints what each of them printed.

    python -m scripts.documented_commands [--long | --shortened] [--only TEXT] [PAGE ...]

Each command runs once, as written, in a scratch clone of the last commit with this Python, in the
order of the pages. Names in the text, such as RESULT or <system>, are replaced by the committed
example results. Commands for hardware, services or data that a machine may lack are not run; the
answer says which and why. Long commands run only with --long, as written, or with
--shortened, with fewer repetitions; the output shows the changed command.
Exit code 1 if a command ended with another exit code than the page says, 0 otherwise.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple

from reference_model.base.usage_parser import UsageParser

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"(?:\S*python\S* -m \S|(?:\./|scripts/)\S+\.sh\b|neumf-(?:bench|compliance)\b)")
EXAMPLE = "results/example_amd-epyc-2cpu"
# Names in the pages, and what they are replaced by. Order matters: longer names first.
STANDS_FOR = {
    "results/<system>/<benchmark>": f"{EXAMPLE}/ncf-ml-100k",
    "results/my-workstation/ncf-ml-100k": f"{EXAMPLE}/ncf-ml-100k",
    "results/my-workstation": EXAMPLE,
    "edited/result_0.txt": "tests/data/bad/not_every_user.txt",
    "BASELINE.json NEW.json": "tests/data/regress/baseline.json tests/data/regress/again.json",
    "DIR_A DIR_B": f"{EXAMPLE}/ncf-ml-100k {EXAMPLE}/ncf-ml-100k",
    "package DIR": f"package {EXAMPLE}/ncf-ml-100k",
    "report DIR": f"report {EXAMPLE}/ncf-ml-100k",
    "convergence DIR": f"convergence {EXAMPLE}/ncf-ml-100k",
    "--html PAGE": "--html page.html",
    "--output submission": "--output submission",
    "--summary --output=FILE": "--summary --output=compliance/reference_points/ml-1m.json",
    "=FILE": "=file.json",
    "=OUT": "=out.json",
    "RESULT": f"{EXAMPLE}/ncf-ml-100k/result_0.txt",
    " LOG": f" {EXAMPLE}/ncf-ml-100k/result_0.txt",
    "OLD,NEW": "HEAD,HEAD",
    "REV": "HEAD",
}
# A verb or a module without arguments, as a sentence mentions it.
MENTION = re.compile(
    r"\S*python\S* -m (?:compliance(?: \.\.\.)?|compliance (?:check|convergence|rules)|harness|"
    r"harness\.slurm|harness\.engine_conformance|scripts\.scaling)")
# Expected exit codes, by a part of the command. The first match counts; the default is 0.
EXIT_CODES: dict[str, int | tuple[int, ...]] = {
    "--against REV": (0, 1),  # 1: the noise of the machine permits no verdict
    "--max_epochs=2": 2,  # the page shows a run that misses the target
    "check edited/": 2,  # the page shows a log that fails
    "--replay": 0,
    "regress BASELINE.json NEW.json": 1,  # the noise of these recordings permits no verdict
    "--audit": 1,  # without --replay: an example result keeps no checkpoint
}
# Why a command is not run here, by a part of it.
NOT_RUN = {
    "--device=gpu": "needs a GPU",
    "--device=tpu": "needs a TPU",
    "--tpu": "needs a TPU",
    "gs://": "needs a bucket of Google Cloud Storage",
    "NEUMF_WHEELS": "needs the folder that scripts/wheels.sh fills",
    "--track=FILE": "stands for a track of the reader",
    "scripts/wheels.sh": "downloads an installation of TensorFlow",
    "sbatch": "needs Slurm",
    "engine_conformance module:Class": "stands for an engine of the reader",
    "--engine=module:Class": "stands for an engine of the reader",
    "my-track.yaml": "stands for a track of the reader",
    "goodreads": "needs the Goodreads dataset",
    "ratings.csv": "stands for ratings of the reader",
    "--programs=DIR": "DIR is a placeholder",
    "--resume": "needs a set that was interrupted",
    "tuned.flags": "needs the flag file of a tuning",
    "mkdocs serve": "runs until it is stopped; tests/project/test_docs_site.py builds the site",
    "example_results.sh": "replaces the committed example results",
    "--summarize": "needs measurements of the command before it",
    "ml-1m-16x32": "makes 1.2 billion examples; docs/fractal.md has its time",
    "--input=shards": "run by tests/harness/inputs/test_shard_runs.py",
    "fractal_plot": "needs the expanded datasets",
    "my_engine:MyEngine": "run by tests/harness/regression/test_plugin.py",
    "regress before after": "needs the recordings of the project on that page",
    "--num_runs=30": "trains 30 runs",
}
# Commands that take more than a few minutes.
LONG = re.compile(
    r"run_tests\.sh(?! tests)|peers\.sh|calibrate|ml-1m|scripts\.scaling --sizes|epinions|"
    r"engine_conformance|scripts\.runtimes|scripts\.start_up|against_power|"
    r"test_comparison_simulation|test_single_edits|--tune")
# What --shortened replaces in those commands: numbers of repetitions and sizes of data.
SHORTER = {
    r"--runs=\d+": "--runs=2",
    r"--epochs=\d+": "--epochs=2",
    r"--rounds \d+": "--rounds 1",
    r"--tune --track=\S+ (.*)--minutes=\d+": r"--tune --track=ml-100k \1--minutes=2",
    r"(peers\.sh --versions \S+)$": r"\1 --settings small-98304 --rounds 1",
    r"(run_and_time\.sh --track=(?:ml-1m|\S*epinions\.yaml))$": r"\1 --num_runs=1",
    r"--num_runs=2": "--num_runs=1",
    r"--settings large-98304,small-98304,sampling": "--settings small-98304,sampling --rounds 1",
    r"--sizes \S+": "--sizes ml-100k,ml-1m",
    r"--record \d+": "--record 2",
    r"(run_tests\.sh(?: --slow)?)$": r"\1 tests/project",
    r"(run_tests\.sh --benchmarks)$": r"\1 -k write_log",
    r"(scripts\.start_up)$": r"\1 --rounds 1",
    r"(scripts\.runtimes ml-100k)$": r"\1 --rounds 1 --epochs 2",
}


class Command(NamedTuple):
    """A command of a page, as written."""

    page: str
    text: str


def commands_in(text: str) -> Iterator[str]:
    """Yields this project's commands in code blocks and inline code; joins continued lines."""
    text = re.sub(r"\\\n\s*", "", text)
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in fenced for line in block.splitlines()]
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [line.strip() for line in rest.splitlines() if line.startswith("    ")]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", rest)]
    for line in lines:
        line = line.removeprefix("$ ")
        line = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)
        line = re.sub(r"\[(--[^\]]*)\]", r"\1", line)  # [--flag]: optional
        if COMMAND.match(line):
            yield re.split(r" (?:>|\||&&|;) ", line)[0]


def all_commands(pages: list[Path]) -> list[Command]:
    """Returns the distinct commands of pages, in their order."""
    found: dict[str, Command] = {}
    for page in pages:
        for line in commands_in(page.read_text(encoding="utf-8")):
            text = line.partition(" #")[0].strip()
            # A program or a verb that a sentence mentions has no arguments.
            is_mention = len(text.split()) < 2 and not text.startswith("./") or "VERB" in text
            if not is_mention and not MENTION.fullmatch(text):
                found.setdefault(text, Command(page.relative_to(ROOT).as_posix(), text))
    return list(found.values())


def reason_not_to_run(text: str, is_long_allowed: bool) -> str | None:
    """Says why a command is not run; None if it is run."""
    for part, reason in NOT_RUN.items():
        if part in text:
            return reason
    if not is_long_allowed and LONG.search(text):
        return "takes long; use --long or --shortened"
    return None


def shorten(text: str) -> str:
    """Returns a long command with fewer repetitions and smaller data."""
    for pattern, replacement in SHORTER.items():
        text = re.sub(pattern, replacement, text)
    return text


def runnable(text: str, python: str) -> str:
    """Returns a command in which names are replaced by files that exist."""
    for name, value in STANDS_FOR.items():
        text = text.replace(name, value)
    text = re.sub(r"\[DIR \.\.\.\]|\[|\]|\.\.\.", "", text).replace("--html FILE", "--html page.html")
    return re.sub(r"^\S*python\S* -m", f"{shlex.quote(python)} -m", text)


def run_all(commands: list[Command], is_long_allowed: bool, is_shortened: bool) -> int:
    """Runs commands in a scratch clone; returns the number that ended otherwise than expected."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "neumf-bench"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "NEUMF_PYTHON": sys.executable, "PYTHONPATH": str(clone)}
        for number, command in enumerate(commands):
            if reason := reason_not_to_run(command.text, is_long_allowed or is_shortened):
                print(f"-- {command.page}: {command.text}\n   not run: {reason}\n", flush=True)
                continue
            expected = next((code for part, code in EXIT_CODES.items() if part in command.text), 0)
            text = shorten(command.text) if is_shortened else command.text
            text = text.replace("--output TREE", f"--output tree-{number}")
            if "calibrate" in text and "--summary" not in text:  # one file for each calibration
                text = text.replace("=FILE", f"=calibration-{number}.json")
            line = runnable(text, sys.executable)
            answer = subprocess.run(line, shell=True, cwd=clone, env=environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            allowed = expected if isinstance(expected, tuple) else (expected,)
            is_wrong = answer.returncode not in allowed
            wrong += is_wrong
            lines = answer.stdout.strip().splitlines()
            shown = lines if len(lines) <= 6 else [*lines[:2], f"[{len(lines) - 5} lines]", *lines[-3:]]
            print(f"{'!!' if is_wrong else 'ok'} {command.page}: {command.text}")
            if is_shortened and text != command.text:
                print(f"   run as: {text}")
            print(f"   exit code {answer.returncode}" + f", expected {expected}" * is_wrong)
            print("".join(f"   | {text}\n" for text in shown), flush=True)
    return wrong


def main(argv: list[str] | None = None) -> int:
    parser = UsageParser(
        prog="python -m scripts.documented_commands", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, help="Markdown pages (all)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--long", action="store_true", help="also run commands that take long")
    length.add_argument("--shortened", action="store_true",
                        help="run the long commands with fewer repetitions and smaller data")
    parser.add_argument("--only", default="", help="only commands that contain this text")
    args = parser.parse_args(argv)
    pages = [page.resolve() for page in args.pages] or sorted(
        page for folder in (ROOT, ROOT / "docs") for page in folder.glob("*.md")
        if page.name != "CHANGELOG.md")
    commands = [c for c in all_commands(pages) if args.only in c.text]
    wrong = run_all(commands, args.long, args.shortened)
    print(f"{len(commands)} commands; {wrong} ended with another exit code than expected")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
