"""Checks of noise: epochs that vary within a run, and runs whose epochs are slower than others'."""

from __future__ import annotations

from typing import Any

from compliance.checking.checks.base import (
    Check,
    Param,
    non_negative_param,
    text_param,
)
from compliance.checking.checks.sets import LogSet, SetReport
from compliance.logs.dialects.event import Event, is_number
from compliance.logs.epoch_times import epoch_variation, median_epoch, run_delays

_CONCLUSION = "the machine was busy or slowed down; its times are not comparable"
# The member of a machine_load record that tells when it was made, and its value after the run.
_WHEN, _AFTER = "when", "after_run"


class EpochsVaryCheck(Check):
    """The epochs of a run take about the same time.

    The first epoch is left out. The mean of the others may exceed the mean of their fastest quarter
    by a share. Nothing is said about runs of fewer than 4 epochs. If the log has the load of the
    machine during the run, the message contains it.
    """

    PARAMS = {"share": non_negative_param("the share by which the mean may be longer"),
              "load": text_param("the key of the record with the machine's load", required=False)}

    def setup(self) -> None:
        self.keys = (self.params["load"],) if "load" in self.params else ()
        self.load: dict[str, Any] = {}

    def observe(self, event: Event) -> None:
        if isinstance(event.value, dict) and event.metadata.get(_WHEN) == _AFTER:
            self.load = event.value

    def finish(self) -> None:
        found = epoch_variation(self.context.summary.epoch_times.seconds)
        if found is not None and found.excess > self.params["share"]:
            self.report(None, f"the epochs of this run vary by {found.range:.0%} "
                              f"({found.fastest_s:.3g} to {found.slowest_s:.3g} s), and took "
                              f"{found.excess:.0%} longer than the fastest quarter of them"
                              f"{_load_words(self.load)}: {_CONCLUSION}")


def _load_words(load: dict[str, Any]) -> str:
    """Returns what else used the machine during the run; empty if the log does not tell."""
    words = []
    others, cpus, steal = (load.get(name) for name in ("other_cpus", "cpus", "steal_share"))
    # Impossible figures are not repeated.
    if is_number(others) and is_number(cpus) and 0 <= others <= cpus < 1e6:
        words.append(f"other programs used {others:.2g} of {cpus:g} CPUs")
    if is_number(steal) and 0.005 <= steal <= 1:
        words.append(f"{steal:.0%} of the CPUs' time was stolen")
    return f" ({', '.join(words)})" if words else ""


class EpochsVaryInSetCheck:
    """The epochs of all runs of a folder take about the same time.

    The median epoch of a run, without its first epoch, may exceed the mean of the fastest quarter
    of the runs' medians by a share. Runs of fewer than 4 epochs are left out.
    """

    PARAMS: dict[str, Param] = {
        "share": non_negative_param("the share by which a run's median may be longer")}

    @staticmethod
    def wanted_keys(params: dict[str, Any]) -> tuple[str, ...]:
        return ()

    @staticmethod
    def judge(params: dict[str, Any], logs: LogSet, report: SetReport) -> None:
        medians = {index: median for index, member in enumerate(logs.members)
                   if member.summary is not None
                   and (median := median_epoch(member.summary.epoch_times.seconds))}
        for index, delay in run_delays(medians).items():
            if delay > params["share"]:
                fastest = logs.members[min(medians, key=medians.__getitem__)].name
                report(index, None, f"the epochs of this run took {medians[index]:.3g} s, "
                                    f"{delay:.0%} longer than those of the fastest runs, such as "
                                    f"{fastest}: {_CONCLUSION}")
