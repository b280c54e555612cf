"""Faults inside a process: put this folder on PYTHONPATH and Python imports this file.

FAULT_CRASH=WHO:K   WHO (parent | trial) dies by SIGKILL at its K-th write, sync or
                    rename, and the other one with it, as in a power cut: what was
                    written and not synced is gone, and of the write that it dies in only
                    a part is there.
FAULT_CLOCK=K       from its K-th reading on the wall clock is an hour behind.
FAULT_STILLBORN=1   a trial ends before it has done anything.
FAULT_IMPORT=NAME   SIGINT reaches the parent while it imports the module NAME.
FAULT_COUNT=FILE    writes how many operations FAULT_CRASH could have chosen from.
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
_at = 0
# Of each file that was written to: how much of it is safe.
_synced: dict[str, int] = {}


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def _die() -> None:
    for other in [os.getppid()] if _IS_TRIAL else _children():
        os.kill(other, signal.SIGKILL)
    for path, size in _synced.items():
        try:
            if os.path.getsize(path) > size:
                os.truncate(path, size)
        except OSError:
            pass
    os.kill(os.getpid(), signal.SIGKILL)


def _is_time() -> bool:
    global _count
    _count += 1
    return _count == _at


def _write(descriptor: int, data) -> int:
    path = _path(descriptor)
    if not path.startswith("/") or path.startswith("/dev/"):
        return _real["write"](descriptor, data)
    _synced.setdefault(path, os.path.getsize(path))
    if _is_time():
        if _count % 2:  # it was torn: a part got to the disk
            _real["write"](descriptor, bytes(data)[: len(data) // 2])
            _real["fsync"](descriptor)
            _synced[path] = os.path.getsize(path)
        _die()
    return _real["write"](descriptor, data)


def _fsync(descriptor: int) -> None:
    if _is_time():
        _die()
    _real["fsync"](descriptor)
    path = _path(descriptor)
    if os.path.isfile(path):
        _synced[path] = os.path.getsize(path)


def _before(name: str):
    def call(*args, **settings):
        if _is_time():
            _die()
        return _real[name](*args, **settings)

    return call


def _tell() -> None:
    with open(os.environ["FAULT_COUNT"], "a") as file:
        file.write(f"{'trial' if _IS_TRIAL else 'parent'} {_count}\n")


def _step_back(after: int) -> None:
    real, readings = time.time_ns, [0]

    def time_ns() -> int:
        readings[0] += 1
        return real() - (3_600_000_000_000 if readings[0] >= after else 0)

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


class _Interrupting:
    """A finder of modules that finds none."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == os.environ["FAULT_IMPORT"]:
            os.kill(os.getpid(), signal.SIGINT)


_who, _, _number = os.environ.get("FAULT_CRASH", "").partition(":")
if _IS_TRIAL and "FAULT_STILLBORN" in os.environ:
    os._exit(7)
if _IS_TRIAL or _IS_PARENT:
    if _who == ("trial" if _IS_TRIAL else "parent"):
        _at = int(_number)
    if _who or "FAULT_COUNT" in os.environ:
        os.write, os.fsync = _write, _fsync
        for _name in ("replace", "rename", "ftruncate"):
            setattr(os, _name, _before(_name))
    if "FAULT_COUNT" in os.environ:
        atexit.register(_tell)
        _exit = os._exit
        os._exit = lambda code: (_tell(), _exit(code))
    if _IS_PARENT and "FAULT_IMPORT" in os.environ:
        sys.meta_path.insert(0, _Interrupting)
    if _IS_TRIAL and "FAULT_CLOCK" in os.environ:
        _step_back(int(os.environ["FAULT_CLOCK"]))
