"""All exit codes of the harness."""

from __future__ import annotations

OK = 0  # PASS, valid but unscored, or the requested action succeeded
ERROR = 1  # usage or internal error
FAIL = 2  # the verdict is FAIL
UNREADABLE = 3  # --audit: a log or a checkpoint cannot be read
INTERRUPTED = 3  # stopped by a signal; --resume completes the set
