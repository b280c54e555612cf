"""Reads a recording for `regress`: pytest-benchmark's `--benchmark-json` of several processes.

The rounds of one process are not independent, so only each process's median is used.
A recording is one of

* a file in which a benchmark appears once for each process (`extra_info.process` numbers
  the processes; without it the k-th entry of a benchmark belongs to the k-th process);
* a list of such documents in one file;
* a folder of such files (`*.json`), one process each.

Two more fields of `extra_info` are read: `input`, the version of the benchmark's input data,
and `calibration: true`, the only mark of a calibration benchmark.

Duplicate documents count once. A recording must be of one machine, one version of Python and
one commit.

The files are not trusted: for any contents the result is a recording or a `UsageError`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Iterator

from compliance.base.errors import UsageError
from compliance.base.text import printable_line, shorten
from compliance.base.untrusted_files import TooLarge, read_bounded

MAX_BYTES, MAX_FILES = 128 << 20, 1000
MAX_BENCHMARKS, MAX_ENTRIES, MAX_NAME_CHARS = 2000, 100_000, 1000
_HOW_TO_RECORD = "write it with pytest --benchmark-json"
_MAX_SHOWN_CHARS = 80  # characters of a file's own text in a message

ProcessId = tuple[int, int]  # (number of the document, number of the process in it)


@dataclass
class Benchmark:
    """One benchmark of a recording.

    Attributes:
      name: Its full name.
      medians: Median seconds of the rounds, for each process.
      inputs: The versions of its input; more than one if the processes differ.
      is_calibration: Whether it measures only the speed of the machine.
      iterations: The numbers of iterations per round, over all processes.
    """

    name: str
    medians: dict[ProcessId, float] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    is_calibration: bool = False
    iterations: set[int] = field(default_factory=set)
    _unnumbered: Counter[int] = field(default_factory=Counter, repr=False)

    def next_process(self, document_number: int) -> int:
        """Returns the next process number in a document without process numbers."""
        self._unnumbered[document_number] += 1
        return self._unnumbered[document_number]


@dataclass
class Recording:
    """All processes of one recording.

    Attributes:
      path: The file or folder, as shown in messages.
      machine: Properties that must agree for two recordings to be compared.
      environment: Properties whose differences are only reported, such as versions.
      benchmarks: The benchmarks by their full names.
      commit: The recorded commit; None if the documents do not contain it.
      day: The date of the first document, as 2026-11-21; None if it has no date.
      num_equal: The number of duplicate documents, which were left out.
    """

    path: str
    machine: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    commit: str | None = None
    day: str | None = None
    num_equal: int = 0

    @property
    def num_processes(self) -> int:
        """The largest number of processes that any benchmark has."""
        return max((len(s.medians) for s in self.benchmarks.values()), default=0)


def read_recording(path: str | Path) -> Recording:
    """Reads a recording from a file or a folder.

    Raises:
      UsageError: It contains no benchmark, or the data cannot be used.
    """
    path, recording = Path(path), Recording(short_line(path))
    num_entries = document_number = 0
    seen: set[str] = set()
    for file in _list_files(path):
        for document in _read_documents(file):
            where = short_line(file)
            digest = hashlib.sha256(
                json.dumps(document, sort_keys=True).encode()).hexdigest()
            if digest in seen:
                recording.num_equal += 1
                continue
            seen.add(digest)
            _set_or_check_machine(recording, document, where, is_first=document_number == 0)
            for entry in _iterate_entries(document, where):
                num_entries += 1
                if num_entries > MAX_ENTRIES:
                    raise UsageError(f"{where}: more than {MAX_ENTRIES} benchmark entries")
                _add_entry(recording, entry, document_number, where)
            document_number += 1
    if not recording.benchmarks:
        raise UsageError(f"{recording.path}: contains no benchmark; {_HOW_TO_RECORD}")
    return recording


def short_line(text: Any) -> str:
    """Returns text from a file or a path as one printable line of limited length."""
    return shorten(printable_line(text), _MAX_SHOWN_CHARS)


def _list_files(path: Path) -> list[Path]:
    """Returns the file itself, or the JSON files of the folder."""
    if path.is_dir():
        files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
        if not files:
            raise UsageError(
                f"{short_line(path)}: there is no *.json file in this folder; {_HOW_TO_RECORD}")
        if len(files) > MAX_FILES:
            raise UsageError(
                f"{short_line(path)}: more than {MAX_FILES} *.json files in this folder")
        return files
    if not path.exists():
        raise UsageError(f"{short_line(path)}: there is no such file or folder; {_HOW_TO_RECORD}")
    if not path.is_file():
        raise UsageError(f"{short_line(path)}: not a file")
    return [path]


def _read_documents(file: Path) -> list[dict[str, Any]]:
    """Returns the pytest-benchmark documents in one file; raises UsageError."""
    value = _parse_json(file)
    documents = value if isinstance(value, list) else [value]
    if not all(isinstance(d, dict) and isinstance(d.get("benchmarks"), list) for d in documents):
        raise UsageError(f"{short_line(file)}: not a pytest-benchmark file: it has no list "
                         f"'benchmarks'; {_HOW_TO_RECORD}")
    return documents


def _parse_json(file: Path) -> Any:
    """Returns the JSON value in a file; raises UsageError."""
    from compliance.logs.dialects.strictjson import StrictJson

    try:
        data = read_bounded(file, MAX_BYTES)
    except TooLarge:
        raise UsageError(f"{short_line(file)}: larger than {MAX_BYTES >> 20} MiB") from None
    except OSError as error:
        raise UsageError(f"{short_line(file)}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{short_line(file)}: not UTF-8 text; {_HOW_TO_RECORD}") from None
    if not text:
        raise UsageError(f"{short_line(file)}: the file is empty; {_HOW_TO_RECORD}")
    try:
        value, end, faults = StrictJson().decode(text)
    except ValueError as error:
        raise UsageError(f"{short_line(file)}: {short_line(error)}") from None
    if end < len(text):
        raise UsageError(f"{short_line(file)}: there is more text after the JSON value")
    duplicates = [message for code, message in faults if code == "duplicate"]
    if duplicates:
        raise UsageError(f"{short_line(file)}: {short_line(duplicates[0])} in one object")
    return value


def _iterate_entries(document: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yields the entries of a document."""
    for number, entry in enumerate(document["benchmarks"], start=1):
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: benchmark {number} is not an object")
        yield entry


def _add_entry(recording: Recording, entry: dict[str, Any], document_number: int,
               where: str) -> None:
    """Adds the median of one benchmark in one process."""
    name = entry.get("fullname") or entry.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_CHARS:
        raise UsageError(
            f"{where}: a benchmark without a name of at most {MAX_NAME_CHARS} characters")
    benchmark = recording.benchmarks.setdefault(name, Benchmark(name))
    if len(recording.benchmarks) > MAX_BENCHMARKS:
        raise UsageError(f"{where}: more than {MAX_BENCHMARKS} benchmarks")
    extra = entry.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    process = extra.get("process")
    if isinstance(process, bool) or not isinstance(process, int) or not 0 <= process < 10**9:
        process = benchmark.next_process(document_number)
    if (document_number, process) in benchmark.medians:
        raise UsageError(f"{where}: {short_line(name)} appears twice for process {process}")
    benchmark.medians[document_number, process] = _median_seconds(entry, name, where)
    benchmark.inputs.add(_input_version(extra.get("input", "")))
    benchmark.is_calibration |= extra.get("calibration") is True
    stats = entry.get("stats")
    iterations = stats.get("iterations") if isinstance(stats, dict) else None
    if isinstance(iterations, int) and not isinstance(iterations, bool) and iterations > 0:
        benchmark.iterations.add(iterations)


def _median_seconds(entry: dict[str, Any], name: str, where: str) -> float:
    """Returns the median of the rounds in seconds; computed if the file does not contain it."""
    stats = entry.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    value, rounds = stats.get("median"), stats.get("data")
    if value is None and isinstance(rounds, list) and rounds and all(map(_is_valid_time, rounds)):
        value = median(rounds)
    if not _is_valid_time(value):
        raise UsageError(f"{where}: {short_line(name)} has no median above 0 seconds")
    return float(value)


def _input_version(value: Any) -> str:
    """Returns the version of an input as short text; different versions give different texts."""
    text = printable_line(value)
    if len(text) <= _MAX_SHOWN_CHARS:
        return text
    return f"{text[:20]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _is_valid_time(value: Any) -> bool:
    """Whether the value is a valid time in seconds; outside these bounds ratios overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) \
        and math.isfinite(value) and 1e-12 <= value <= 1e12


def _set_or_check_machine(recording: Recording, document: dict[str, Any], where: str,
                          is_first: bool) -> None:
    """Stores the properties of the first document, and requires all others to match them."""
    machine, environment = _machine_and_environment(document)
    commit, day = _commit_and_day(document)
    if is_first:
        recording.machine, recording.environment = machine, environment
        recording.commit, recording.day = commit, day
        return
    changes = describe_differences(recording.machine, machine)
    if changes:
        raise UsageError(f"{where}: recorded on a different machine than the documents before it "
                         f"in {recording.path}: {'; '.join(changes)}")
    for what, first, other in (("version of Python", recording.environment["python"],
                                environment["python"]),
                               ("commit", recording.commit, commit)):
        if first and other and first != other:
            raise UsageError(f"{where}: recorded with a different {what} ({short_line(other)}) "
                             f"than the documents before it in {recording.path} "
                             f"({short_line(first)}); put each in a separate folder")


def _commit_and_day(document: dict[str, Any]) -> tuple[str | None, str | None]:
    """Returns the commit and the date of a document."""
    commit, moment = document.get("commit_info"), document.get("datetime")
    identity = commit.get("id") if isinstance(commit, dict) else None
    return (identity if isinstance(identity, str) and identity else None,
            short_line(moment[:10]) if isinstance(moment, str) and len(moment) >= 10 else None)


def _machine_and_environment(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns (properties that identify the machine, properties that may differ)."""
    info = document.get("machine_info")
    info = info if isinstance(info, dict) else {}
    cpu = info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}

    def text(value: Any) -> str:
        is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return short_line(value).strip() if is_scalar else ""

    python = text(info.get("python_version"))
    machine = {
        "cpu": text(cpu.get("brand_raw") or cpu.get("brand") or info.get("processor")),
        # Virtual machines report one name for several generations of a processor.
        "model": ", ".join(f"{key} {text(cpu[key])}" for key in ("family", "model")
                           if text(cpu.get(key))),
        "cores": text(cpu.get("count")),
        "architecture": text(info.get("machine") or cpu.get("arch")),
        "system": text(info.get("system")),
        "python": " ".join(filter(None, [text(info.get("python_implementation")),
                                         ".".join(python.split(".")[:2])]))}
    environment = {"python": python, "host": text(info.get("node"))}
    packages = info.get("packages")
    for name in sorted(map(str, packages))[:50] if isinstance(packages, dict) else ():
        environment[short_line(name)] = text(packages.get(name))
    return machine, environment


def describe_differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Describes each difference in a text such as "cores: 2, now 8".

    The model of a processor is compared only if both sides contain it, since older recordings
    do not.

    Args:
      first: The properties of the first recording.
      second: The properties of the second recording.

    Returns:
      One text for each difference.
    """
    return [f"{key}: {first.get(key) or 'unknown'}, now {second.get(key) or 'unknown'}"
            for key in {**first, **second} if first.get(key, "") != second.get(key, "")
            and (key != "model" or (first.get(key) and second.get(key)))]
