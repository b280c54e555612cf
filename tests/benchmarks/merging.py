"""Several pytest-benchmark documents as one that is small enough to be committed.

An entry a benchmark and process, one line each: the median, its spread and how many
rounds; the rounds themselves are left out. `extra_info.process` numbers the processes,
and `extra_info.relative` is the median over the calibration of the same process.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from compliance.base.untrusted_files import write_text

STATS = ("median", "iqr", "rounds", "iterations")
MACHINE = ("python_implementation", "python_version", "system", "machine", "packages")
CPU = ("brand_raw", "family", "model", "count", "arch")


def read_document(path: Path) -> dict[str, Any]:
    """What pytest-benchmark wrote.  Raises ValueError, OSError."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not document.get("benchmarks"):
        raise ValueError(f"{path}: no benchmark ran")
    return document


def merge(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """One document of all processes; facts about the machine are the first one's."""
    first = documents[0]
    entries = []
    for process, document in enumerate(documents, start=1):
        unit = _calibration(document["benchmarks"])
        entries += [_slim(entry, process, unit) for entry in document["benchmarks"]]
    entries.sort(key=lambda e: (e["fullname"], e["extra_info"]["process"]))
    info = first.get("machine_info", {})
    cpu = {key: info.get("cpu", {})[key] for key in CPU if key in info.get("cpu", {})}
    commit = first.get("commit_info") or {}
    return {
        "machine_info": {**{key: info[key] for key in MACHINE if key in info}, "cpu": cpu},
        "commit_info": {key: commit.get(key) for key in ("id", "dirty")},
        "datetime": first.get("datetime"),
        "version": first.get("version"),
        "processes": len(documents),
        "benchmarks": entries,
    }


def _calibration(entries: list[dict[str, Any]]) -> float | None:
    """Geometric mean of the calibration medians of one process; None without any."""
    found = [e["stats"]["median"] for e in entries if e["extra_info"].get("calibration")]
    return math.exp(math.fsum(map(math.log, found)) / len(found)) if found else None


def _slim(entry: dict[str, Any], process: int, unit: float | None) -> dict[str, Any]:
    extra = {key: _short(value) for key, value in entry["extra_info"].items()}
    extra["process"] = process
    if unit is not None:
        extra["relative"] = _short(entry["stats"]["median"] / unit)
    stats = {key: _short(entry["stats"][key]) for key in STATS if key in entry["stats"]}
    names = {"fullname": entry["fullname"], "group": entry["group"]}
    return {**names, "extra_info": extra, "stats": stats}


def _short(value: Any) -> Any:
    """A float with six figures: times are not known better."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write_document(path: Path, document: dict[str, Any]) -> None:
    """As JSON, an entry a line, so that git shows what changed."""
    head = {key: value for key, value in document.items() if key != "benchmarks"}
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"benchmarks":[\n'
    text += ",\n".join(json.dumps(e, separators=(",", ":")) for e in document["benchmarks"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text + "\n]}\n")


def machine_class(info: dict[str, Any]) -> str:
    """What a baseline is kept under: the processor and how many cores it has. Its family and
    model belong to it: virtual machines call several generations by one name."""
    cpu = info.get("cpu") or {}
    brand = str(cpu.get("brand_raw") or info.get("machine") or "unknown").lower()
    brand = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor)\b", " ", brand)
    words = re.sub(r"[^a-z0-9]+", "-", brand).strip("-")[:60]
    made = "".join(f"-{key}-{cpu[key]}" for key in ("family", "model")
                   if isinstance(cpu.get(key), int))  # fmt: skip
    return f"{words or 'unknown'}{made}-{cpu.get('count', 'unknown')}-cores"
