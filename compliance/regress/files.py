"""One side of `regress`: pytest-benchmark's `--benchmark-json`, of several processes.

Rounds of one process are not independent, so what counts is each process's median.
A side is one of

* a file in which a benchmark stands once for each process (`extra_info.process`
  numbers them; without it the k-th entry of a benchmark is of the k-th process);
* a list of such documents in one file;
* a folder of such files (`*.json`), one process each.

What else is read from `extra_info`: `input`, the version of what the benchmark works
on, and `calibration: true`, which marks a calibration benchmark (so does the word
"calibration" in its file, name or group).

The files are not trusted: whatever they hold, there is a side or a `UsageError`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Iterator

from compliance.base.errors import UsageError
from compliance.base.untrusted_files import TooLarge, read_bounded
from compliance.report.tables import plain

MAX_BYTES, MAX_FILES = 128 << 20, 1000
MAX_BENCHMARKS, MAX_ENTRIES, MAX_NAME = 2000, 100_000, 1000
_HINT = "write it with pytest --benchmark-json"
_SHOWN = 80  # characters of a file's own text in a message

Process = tuple[int, int]  # which file (or document), which process in it


@dataclass
class Series:
    """One benchmark: seconds (the median of its rounds) of each process."""

    name: str
    medians: dict[Process, float] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    calibration: bool = False
    _unnumbered: Counter[int] = field(default_factory=Counter, repr=False)

    def next_process(self, document: int) -> int:
        """The number of the next process of a document that does not number them."""
        self._unnumbered[document] += 1
        return self._unnumbered[document]


@dataclass
class Side:
    """All processes of one recording.

    `machine`: what must agree for two sides to be comparable; `circumstances`: what
    is said where it differs, such as the versions of packages.
    """

    path: str
    machine: dict[str, str] = field(default_factory=dict)
    circumstances: dict[str, str] = field(default_factory=dict)
    benchmarks: dict[str, Series] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """The most processes that any benchmark has."""
        return max((len(s.medians) for s in self.benchmarks.values()), default=0)


def read_side(path: str | Path) -> Side:
    """Reads a file or a folder.  Raises UsageError: no data, or not to be used."""
    path, side = Path(path), Side(show(path))
    entries = number = 0
    for file in _files(path):
        for document in _documents(file):
            where = show(file)
            _take_machine(side, document, where, first=number == 0)
            for entry in _entries(document, where):
                entries += 1
                if entries > MAX_ENTRIES:
                    raise UsageError(f"{where}: more than {MAX_ENTRIES} benchmark entries")
                _take(side, entry, number, where)
            number += 1
    if not side.benchmarks:
        raise UsageError(f"{side.path}: there is no benchmark in it; {_HINT}")
    return side


def show(text: Any) -> str:
    """Text of a file or a path, printable and short."""
    text = plain(text)
    return text if len(text) <= _SHOWN else text[:_SHOWN - 3] + "..."


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.glob("*.json") if not p.name.startswith("."))
        if not files:
            raise UsageError(f"{show(path)}: there is no *.json file in this folder; {_HINT}")
        if len(files) > MAX_FILES:
            raise UsageError(f"{show(path)}: more than {MAX_FILES} *.json files in this folder")
        return files
    if not path.exists():
        raise UsageError(f"{show(path)}: there is no such file or folder; {_HINT}")
    if not path.is_file():
        raise UsageError(f"{show(path)}: not a file")
    return [path]


def _documents(file: Path) -> list[dict[str, Any]]:
    """The pytest-benchmark documents in one file.  Raises UsageError."""
    value = _parse(file)
    documents = value if isinstance(value, list) else [value]
    if not all(isinstance(d, dict) and isinstance(d.get("benchmarks"), list) for d in documents):
        raise UsageError(f"{show(file)}: not a file of pytest-benchmark: it has no list "
                         f"'benchmarks'; {_HINT}")
    return documents


def _parse(file: Path) -> Any:
    from compliance.logs.dialects.strictjson import StrictJson

    try:
        data = read_bounded(file, MAX_BYTES)
    except TooLarge:
        raise UsageError(f"{show(file)}: larger than {MAX_BYTES >> 20} MiB") from None
    except OSError as error:
        raise UsageError(f"{show(file)}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{show(file)}: not UTF-8 text; {_HINT}") from None
    if not text:
        raise UsageError(f"{show(file)}: the file is empty; {_HINT}")
    try:
        value, end, faults = StrictJson().decode(text)
    except ValueError as error:
        raise UsageError(f"{show(file)}: {show(error)}") from None
    if end < len(text):
        raise UsageError(f"{show(file)}: there is more text after the JSON value")
    twice = [message for code, message in faults if code == "duplicate"]
    if twice:
        raise UsageError(f"{show(file)}: {show(twice[0])} in one object")
    return value


def _entries(document: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(document["benchmarks"], start=1):
        if not isinstance(entry, dict):
            raise UsageError(f"{where}: benchmark {number} is not an object")
        yield entry


def _take(side: Side, entry: dict[str, Any], document: int, where: str) -> None:
    """Adds one process's median of one benchmark."""
    name = entry.get("fullname") or entry.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise UsageError(f"{where}: a benchmark without a name of at most {MAX_NAME} characters")
    series = side.benchmarks.setdefault(name, Series(name))
    if len(side.benchmarks) > MAX_BENCHMARKS:
        raise UsageError(f"{where}: more than {MAX_BENCHMARKS} benchmarks")
    extra = entry.get("extra_info")
    extra = extra if isinstance(extra, dict) else {}
    number = extra.get("process")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**9:
        number = series.next_process(document)
    if (document, number) in series.medians:
        raise UsageError(f"{where}: {show(name)} stands twice for process {number}")
    series.medians[document, number] = _median(entry, name, where)
    series.inputs.add(_version(extra.get("input", "")))
    group = entry.get("group")
    series.calibration |= extra.get("calibration") is True or "calibration" in name.lower() \
        or isinstance(group, str) and "calibration" in group.lower()


def _median(entry: dict[str, Any], name: str, where: str) -> float:
    """The median of the rounds in seconds; from the rounds where it is not given."""
    stats = entry.get("stats")
    stats = stats if isinstance(stats, dict) else {}
    value, rounds = stats.get("median"), stats.get("data")
    if value is None and isinstance(rounds, list) and rounds and all(map(_is_time, rounds)):
        value = median(rounds)
    if not _is_time(value):
        raise UsageError(f"{where}: {show(name)} has no median above 0 seconds")
    return float(value)


def _version(value: Any) -> str:
    """The version of an input as short text; different versions stay different."""
    text = plain(value)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:20]}... (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _is_time(value: Any) -> bool:
    """Whether it can be so many seconds: beyond these bounds ratios would overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) \
        and math.isfinite(value) and 1e-12 <= value <= 1e12


def _take_machine(side: Side, document: dict[str, Any], where: str, first: bool) -> None:
    """The machine of a document, which is that of all documents before it."""
    machine, circumstances = _machine(document)
    if first:
        side.machine, side.circumstances = machine, circumstances
        return
    other = differences(side.machine, machine)
    if other:
        raise UsageError(f"{where}: recorded on another machine than what stands before it in "
                         f"{side.path}: {'; '.join(other)}")


def _machine(document: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """(what identifies the machine, what may differ and is said)."""
    info = document.get("machine_info")
    info = info if isinstance(info, dict) else {}
    cpu = info.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}

    def text(value: Any) -> str:
        known = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return show(value).strip() if known else ""

    python = text(info.get("python_version"))
    machine = {
        "cpu": text(cpu.get("brand_raw") or cpu.get("brand") or info.get("processor")),
        # Virtual machines call several generations of a processor by one name.
        "model": ", ".join(f"{key} {text(cpu[key])}" for key in ("family", "model")
                           if text(cpu.get(key))),
        "cores": text(cpu.get("count")),
        "architecture": text(info.get("machine") or cpu.get("arch")),
        "system": text(info.get("system")),
        "python": " ".join(filter(None, [text(info.get("python_implementation")),
                                         ".".join(python.split(".")[:2])]))}
    circumstances = {"python": python, "host": text(info.get("node"))}
    packages = info.get("packages")
    for name in sorted(map(str, packages))[:50] if isinstance(packages, dict) else ():
        circumstances[show(name)] = text(packages.get(name))
    return machine, circumstances


def differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """What differs, one text each: "cores: 2, now 8". A processor's model counts where both
    sides say it: not every recording does."""
    return [f"{key}: {first.get(key) or 'unknown'}, now {second.get(key) or 'unknown'}"
            for key in {**first, **second} if first.get(key, "") != second.get(key, "")
            and (key != "model" or (first.get(key) and second.get(key)))]
