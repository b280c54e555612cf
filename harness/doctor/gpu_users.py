"""Other programs on the GPUs, by nvidia-smi."""

from __future__ import annotations

from harness.base.machine import command_output
from harness.config.run_config import RunConfig
from harness.doctor.findings import NOT_FIT, OK, UNKNOWN, Finding

# Above this utilization in percent, some program runs kernels.
_IDLE_PERCENT = 3


def examine_gpus(config: RunConfig) -> list[Finding]:
    """Returns the finding about other users of the GPUs; none without a GPU, or for a CPU run."""
    if config.device == "cpu":
        return []
    table = command_output(
        "nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used",
        "--format=csv,noheader,nounits",
    )
    if not table:
        return []
    programs = command_output(
        "nvidia-smi", "--query-compute-apps=pid,process_name", "--format=csv,noheader"
    )
    return [judge_gpus(table, programs)]


def judge_gpus(table: str, programs: str | None) -> Finding:
    """Returns the finding about the GPUs.

    Args:
      table: A line "index, utilization in percent, memory in MiB" for each GPU.
      programs: A line "process id, name" for each program on a GPU; None if unknown. A container
        does not see the programs of others.
    """
    rows = [[part.strip() for part in line.split(",")] for line in table.splitlines()]
    busy = [row for row in rows if len(row) == 3 and row[1].isdigit()
            and int(row[1]) > _IDLE_PERCENT]  # fmt: skip
    listed = [", process ".join(reversed(line.split(", ", 1)))
              for line in (programs or "").splitlines() if line.strip()]  # fmt: skip
    if listed:
        shown = "; ".join(listed[:3])
        return Finding(NOT_FIT, "GPU users", f"other programs are on the GPUs: {shown}",
                       "stop them, or choose idle GPUs by CUDA_VISIBLE_DEVICES")  # fmt: skip
    if busy:
        shown = ", ".join(f"GPU {index} {percent}%" for index, percent, _ in busy)
        return Finding(NOT_FIT, "GPU users", f"a program that is not visible here uses {shown}",
                       "look on the host, or choose idle GPUs by CUDA_VISIBLE_DEVICES")  # fmt: skip
    if not any(len(row) == 3 and row[1].isdigit() for row in rows):
        return Finding(UNKNOWN, "GPU users", "nvidia-smi does not show the GPUs' utilization")
    return Finding(OK, "GPU users", "no other program uses a GPU")
