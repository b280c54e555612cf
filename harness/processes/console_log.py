"""Removes lines without meaning from the console output of a trial.

XLA's cache of compiled programs prints two harmless errors. It tries to parse each binary file as
text. It also reports two LLVM tuning features that no processor has. Lines about real processor
features are kept, since the program could then fail.
"""

from __future__ import annotations

import re
from pathlib import Path

from reference_model.base.atomic_files import StorageError, atomic_write

_NOISE = re.compile(
    rb"^E\d{4} \S+ +\d+ (?:"
    rb"text_format\.cc:\d+\] Error parsing text-format tensorflow\.XlaSerializedCacheEntry: "
    rb"|cpu_aot_loader\.cc:\d+\] Loading XLA:CPU AOT result\. Target machine feature "
    rb"\+prefer-no-(?:gather|scatter) is not\s+supported on the host machine\."
    rb").*\n",
    re.MULTILINE,
)


def remove_noise(path: Path) -> None:
    """Removes these lines from a file that no process writes any more.

    Args:
      path: The file; if it cannot be read or written, it keeps its lines.
    """
    try:
        output = path.read_bytes()
        kept = _NOISE.sub(b"", output)
        if len(kept) != len(output):
            with atomic_write(path) as stream:
                stream.write(kept)
    except (OSError, StorageError):
        pass
