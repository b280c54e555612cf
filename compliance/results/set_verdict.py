"""The verdict on a set of runs, PASS or FAIL, from the check of its logs and its score.

A log is compliant or not; a set passes or fails. PASS: every log is compliant and there is a
score, or there can be none, because the set has too few runs or no target ("valid, unscored").
Every other set is FAIL. The harness and `report` use this function, so that they agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from compliance.checking.results import (
    COMPLIANCE_WORDS,
    FAIL,
    PASS,
    UNREADABLE,
    FileResult,
)
from compliance.logs.keys import NO_RUN_REASONS
from compliance.results.scoring import Score

PASS_WORD, FAIL_WORD = "PASS", "FAIL"


@dataclass(frozen=True)
class SetVerdict:
    """The verdict on one set.

    Attributes:
      failed: Whether the verdict is FAIL.
      reason: What it is based on: the score, why there is none, or what is wrong.
    """

    failed: bool
    reason: str

    @property
    def word(self) -> str:
        """PASS or FAIL."""
        return FAIL_WORD if self.failed else PASS_WORD

    @property
    def text(self) -> str:
        """The verdict with its reason, as in the last line of the harness's output."""
        return f"{self.word}: {self.reason}"


def compliance_text(files: Sequence[FileResult]) -> str:
    """Returns "every log is compliant", or how many logs are not compliant or unreadable."""
    parts = []
    for verdict in (FAIL, UNREADABLE):
        if count := sum(file.verdict == verdict for file in files):
            of_all = "" if parts else f" of {len(files)} log{'s' * (len(files) != 1)}"
            verb = "is" if count == 1 else "are"
            parts.append(f"{count}{of_all} {verb} {COMPLIANCE_WORDS[verdict]}")
    return ", ".join(parts) or "every log is compliant"


def judge_set(files: Sequence[FileResult], score: Score, required: int | None = None
              ) -> SetVerdict:
    """Judges one set.

    The first matching case decides: logs that are not compliant, settings that exclude a score,
    too few or too many runs, profiled runs, the score, runs that did not converge.

    Args:
      files: The checker's results on its logs, at least one.
      score: Its score.
      required: The number of runs that a score requires; None for the number in `score`, which
        is unknown for a user's own track.
    """
    if any(file.verdict != PASS for file in files):
        return SetVerdict(True, compliance_text(files))
    # Interrupted attempts, which a folder of results does not contain, are not runs.
    summaries = [file.summary for file in files if file.summary.reason not in NO_RUN_REASONS]
    if not summaries:
        return SetVerdict(True, "no run is complete")
    required = required or score.required
    runs, converged = len(summaries), sum(bool(run.converged) for run in summaries)
    missed = f"{runs - converged} of {runs} runs did not reach the target"
    if any(run.is_synthetic for run in summaries):
        return SetVerdict(False, "valid, unscored: the batches were synthetic")
    if all(run.target is None for run in summaries):
        return SetVerdict(False, f"valid, unscored: track {summaries[0].track} has no target")
    if required is not None and runs < required:
        if converged < runs:
            return SetVerdict(True, missed)
        return SetVerdict(False, f"valid, unscored: {runs} of {required} runs")
    if required is not None and runs > required:
        return SetVerdict(
            False, f"valid, unscored: {runs} runs, but the scoring rule takes {required}")
    if any(run.is_profiled for run in summaries):
        return SetVerdict(False, "valid, unscored: the runs were profiled")
    if score.result.seconds is not None:
        return SetVerdict(
            False, f"{score.result.seconds:.3f} s, {converged} of {runs} runs converged")
    if converged < runs:
        return SetVerdict(True, missed)
    return SetVerdict(
        False, f"{converged} of {runs} runs converged; no score: {score.result.reason}")
