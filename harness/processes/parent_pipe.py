"""Messages of a child process to its parent: JSON objects, one per line, on a pipe.

Each message has a "type". A trial sends:

    type          values             meaning
    stage         name               the next stage has begun
    ready         -                  device and engine are ready; the trial waits for the line
                                     "start" on its standard input and has written nothing yet
    note          text               a note for the console
    device        text               the selected devices
    assigned      run, seed          all workers are connected; the chief's run and seed
    epoch         epoch, hr, ndcg, and the values of `tracked_stats`: an epoch has ended
    expected_end  reason, message    why the run ended, if the process ends without an `end`;
                                     a reason of null withdraws the last such message
    end           reason, message, is_result, is_usage_error
                                     the run has ended; whether its log is among the results,
                                     and whether a flag with an invalid value is the cause
    next_run      more               whether the chief starts another run

Other children send any number of `progress` messages (text, done, total). Their last
message is `found`, with the requested values, or `failed` (message).
"""

from __future__ import annotations

import json
import os
from typing import Any


class ParentPipe:
    """Sends messages to the parent process.

    Args:
      descriptor: The write end of the pipe; child processes of this process do not inherit
        it.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)

    def send(self, message_type: str, **values: Any) -> None:
        """Sends one message; does nothing if the parent process has ended."""
        line = json.dumps({"type": message_type, **values}) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError:
            pass
