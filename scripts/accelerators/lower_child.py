"""The child process that lowers programs with TensorFlow.

`python -m scripts.accelerators.lower_child` reads a JSON object from standard input: {"folder":
where to write, "settings": [...]}. For each settings and program it writes NAME.stablehlo, a
portable artifact, and NAME.sources.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from reference_model.pjrt.lowering import lower
from scripts.accelerators.settings import PROGRAMS, Settings, file_name, workload
from scripts.accelerators.source_lines import source_lines


def main() -> int:
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    for text in request["settings"]:
        settings = Settings.from_json(text)
        for name in PROGRAMS:
            program = workload(settings, name).program
            path = folder / file_name(settings, name)
            path.with_name(f"{path.name}.stablehlo").write_bytes(lower(program))
            path.with_name(f"{path.name}.sources.json").write_text(
                json.dumps(source_lines(program)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
