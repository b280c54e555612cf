"""Injects faults into a process: Python imports this file if its folder is on PYTHONPATH.

FAULT_CRASH=WHO:K   Simulates a power cut at the K-th write, sync or rename of WHO (parent
                    or trial): SIGKILL ends both processes, data that was not synced is
                    lost, and the file contains only a part of the interrupted write.
FAULT_CLOCK=K       From its K-th reading on, the wall clock is an hour behind.
FAULT_STILLBORN=1   A trial ends before it does anything.
FAULT_IMPORT=NAME   The parent receives SIGINT while it imports the module NAME.
FAULT_COUNT=FILE    Writes the number of operations, the maximum K of FAULT_CRASH.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

_IS_TRIAL = "harness.trial" in sys.orig_argv
_IS_PARENT = "harness" in sys.orig_argv
_real = {name: getattr(os, name) for name in ("write", "fsync", "replace", "rename", "ftruncate")}
_count = 0
_fault_at = 0
# Bytes of each written file that would survive a power cut, by path.
_synced_sizes: dict[str, int] = {}


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def _cut_power() -> None:
    """Kills parent and trial and removes all data that was not synced."""
    for other in [os.getppid()] if _IS_TRIAL else _children():
        os.kill(other, signal.SIGKILL)
    for path, size in _synced_sizes.items():
        try:
            if os.path.getsize(path) > size:
                os.truncate(path, size)
        except OSError:
            pass
    os.kill(os.getpid(), signal.SIGKILL)


def _is_fault_due() -> bool:
    """Counts an operation; returns whether the power is cut at this operation."""
    global _count
    _count += 1
    return _count == _fault_at


def _write(descriptor: int, data) -> int:
    path = _path(descriptor)
    if not path.startswith("/") or path.startswith("/dev/"):
        return _real["write"](descriptor, data)
    _synced_sizes.setdefault(path, os.path.getsize(path))
    if _is_fault_due():
        if _count % 2:  # a torn write: only a part reached the disk
            _real["write"](descriptor, bytes(data)[: len(data) // 2])
            _real["fsync"](descriptor)
            _synced_sizes[path] = os.path.getsize(path)
        _cut_power()
    return _real["write"](descriptor, data)


def _fsync(descriptor: int) -> None:
    if _is_fault_due():
        _cut_power()
    _real["fsync"](descriptor)
    path = _path(descriptor)
    if os.path.isfile(path):
        _synced_sizes[path] = os.path.getsize(path)


def _with_fault(name: str):
    def call(*args, **settings):
        if _is_fault_due():
            _cut_power()
        return _real[name](*args, **settings)

    return call


def _write_count() -> None:
    with open(os.environ["FAULT_COUNT"], "a") as file:
        file.write(f"{'trial' if _IS_TRIAL else 'parent'} {_count}\n")


def _set_clock_back(after: int) -> None:
    real, readings = time.time_ns, [0]

    def time_ns() -> int:
        readings[0] += 1
        return real() - (3_600_000_000_000 if readings[0] >= after else 0)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


class _InterruptingFinder:
    """A module finder that finds nothing, but interrupts the process for one module name."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == os.environ["FAULT_IMPORT"]:
            os.kill(os.getpid(), signal.SIGINT)


_who, _, _number = os.environ.get("FAULT_CRASH", "").partition(":")
if _IS_TRIAL and "FAULT_STILLBORN" in os.environ:
    os._exit(7)
if _IS_TRIAL or _IS_PARENT:
    if _who == ("trial" if _IS_TRIAL else "parent"):
        _fault_at = int(_number)
    if _who or "FAULT_COUNT" in os.environ:
        os.write, os.fsync = _write, _fsync
        for _name in ("replace", "rename", "ftruncate"):
            setattr(os, _name, _with_fault(_name))
    if "FAULT_COUNT" in os.environ:
        atexit.register(_write_count)
        _exit = os._exit
        os._exit = lambda code: (_write_count(), _exit(code))
    if _IS_PARENT and "FAULT_IMPORT" in os.environ:
        sys.meta_path.insert(0, _InterruptingFinder)
    if _IS_TRIAL and "FAULT_CLOCK" in os.environ:
        _set_clock_back(int(os.environ["FAULT_CLOCK"]))
