#!/usr/bin/env bash
# Sets up .venv with the test extra if need be, then runs the tests:
#   ./run_tests.sh [--slow] [pytest arguments]
#   ./run_tests.sh --benchmarks [--processes N] [pytest arguments]
# --slow adds the tests that take long; --benchmarks runs tests/benchmarks alone, in N
# processes one after the other, and compares with the baseline of this kind of machine.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)" || exit 1
. "$root/scripts/environment.sh"

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
exec "$python" -m pytest ${arguments[@]+"${arguments[@]}"}
