#!/usr/bin/env bash
# Sets up .venv with the test extra if need be, then runs the tests:
#   ./run_tests.sh [--slow] [pytest arguments]
#   ./run_tests.sh --benchmarks [--processes N] [--against REV] [pytest arguments]
# --slow adds the tests that take long; --benchmarks runs tests/benchmarks alone, in N
# processes one after the other. --against REV measures the commit REV in turn with the working
# tree and compares them; else the answer is compared with a committed baseline, if there is one.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

if [ -n "$(asks_for_help "$@")" ]; then  # needs no environment
  print_usage "$0"
  exit 0
fi
arguments=()
benchmarks=""
for word in "$@"; do
  case "$word" in
    --benchmarks) benchmarks=yes ;;
    *) arguments+=("$word") ;;
  esac
done
prepare_python test
cd "$root" || exit 1
if [ -n "$benchmarks" ]; then
  exec "$python" -m tests.benchmarks.run ${arguments[@]+"${arguments[@]}"}
fi
# The whole suite goes file by file in two processes; what somebody chose, in one, where a
# debugger works. Most tests wait for a child that starts, on one core.
case "${arguments[*]-}" in
  "" | --slow)
    if "$python" -c 'import xdist' 2>/dev/null; then
      arguments+=(--numprocesses 2 --dist loadfile)
    fi ;;
esac
exec "$python" -m pytest ${arguments[@]+"${arguments[@]}"}
