"""The exit codes of the harness. It uses no others."""

from __future__ import annotations

OK = 0  # PASS, valid but unscored, or the question was answered
ERROR = 1  # usage or internal error
FAIL = 2  # the verdict is not PASS
UNREADABLE = 3  # --audit: a log or a checkpoint that cannot be read
INTERRUPTED = 3  # stopped by a signal; --resume completes the set
