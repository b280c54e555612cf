"""Merges pytest-benchmark documents into one that is small enough to commit.

It has one entry, on one line, per benchmark and process: the median, its spread and the number of
rounds, but not the single rounds. `extra_info.process` is the number of the process, and
`extra_info.relative` is the median divided by the calibration of the same process.
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
    """Reads a document written by pytest-benchmark. Raises ValueError, OSError."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not document.get("benchmarks"):
        raise ValueError(f"{path}: no benchmark ran")
    return document


def merge(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Merges the documents of all processes; machine facts are taken from the first."""
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
    """Returns the geometric mean of a process's calibration medians; None without any."""
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
    """Rounds floats to six significant digits; times are no more precise than that."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Writes JSON with one entry per line, so that git diffs are readable."""
    head = {key: value for key, value in document.items() if key != "benchmarks"}
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"benchmarks":[\n'
    text += ",\n".join(json.dumps(e, separators=(",", ":")) for e in document["benchmarks"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text + "\n]}\n")


def machine_class(info: dict[str, Any]) -> str:
    """Returns the name of a machine class: the processor, its family and model, and its cores.

    Family and model are included because virtual machines report several generations under one
    name.
    """
    cpu = info.get("cpu") or {}
    brand = str(cpu.get("brand_raw") or info.get("machine") or "unknown").lower()
    brand = re.sub(r"\((r|tm)\)|@.*|\b(cpu|processor)\b", " ", brand)
    words = re.sub(r"[^a-z0-9]+", "-", brand).strip("-")[:60]
    made = "".join(f"-{key}-{cpu[key]}" for key in ("family", "model")
                   if isinstance(cpu.get(key), int))  # fmt: skip
    return f"{words or 'unknown'}{made}-{cpu.get('count', 'unknown')}-cores"
