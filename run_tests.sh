#!/usr/bin/env bash
# Sets up .venv with the test extra if needed, then runs the tests:
#   ./run_tests.sh [--slow] [pytest arguments]
#   ./run_tests.sh --accelerators [pytest arguments]
#   ./run_tests.sh --benchmarks [--processes N] [--against REV] [pytest arguments]
# --slow adds the slow tests. --accelerators installs the compilers of TPUs and GPUs (about 1.8 GB)
# and runs the tests that need them. --benchmarks runs only tests/benchmarks, in N processes one after
# another. --against REV measures the commit REV alternately with the working tree and compares
# the two; without it, the results are compared with a committed baseline, if there is one.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then  # needs no environment
  print_usage "$0"
  exit 0
fi
arguments=()
benchmarks=""
accelerators=""
for word in "$@"; do
  case "$word" in
    --accelerators) accelerators=accelerators ;;
    --benchmarks) benchmarks=yes ;;
    *) arguments+=("$word") ;;
  esac
done
prepare_python "test${accelerators:+ accelerators}"
cd "$root" || exit 1
if [ -n "$benchmarks" ]; then
  exec "$python" -m tests.benchmarks.run ${arguments[@]+"${arguments[@]}"}
fi
# Many tests start processes, which would otherwise compile all modules of a new clone each time.
"$python" -m compileall -q compliance harness reference_model scripts tests
if [ -n "$accelerators" ]; then
  exec "$python" -m pytest tests/accelerators ${arguments[@]+"${arguments[@]}"}
fi
# The whole suite runs file by file in two processes. Selected tests run in one process, so that
# a debugger works. Most tests wait for a child process to start, which uses one core.
case "${arguments[*]-}" in
  "" | --slow)
    if "$python" -c 'import xdist' 2>/dev/null; then
      arguments+=(--numprocesses 2 --dist loadfile)
    fi ;;
esac
exec "$python" -m pytest ${arguments[@]+"${arguments[@]}"}
