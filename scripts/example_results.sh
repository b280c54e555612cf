#!/usr/bin/env bash
# Makes results/example_<system> again: scripts/example_results.sh [TRACK ...]   (ml-100k ml-1m)
# Runs in a clean clone of the last commit, so that the logs record a commit without changes.
# This checkout is not modified before every run has passed. Run nothing else at the same time.
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
. "$root/scripts/environment.sh"
if [ -n "$(asks_for_help "$@")" ]; then
  print_usage "$0"
  exit 0
fi
prepare_python test

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
git clone --quiet "$root" "$work/clone"
cd "$work/clone"
export PYTHONPATH="$work/clone"  # use the clone's modules, not those of this checkout
system="example_$("$python" -c 'from harness.base.machine import default_system_name; print(default_system_name())')"
[ $# -gt 0 ] || set -- ml-100k ml-1m
for track in "$@"; do
  "$python" -m harness --track="$track" --system="$system" --org=neumf-bench
done

# Copies logs, ledgers, the system description and reports, but no console output.
from="$work/clone/results/$system" to="$root/results/$system"
mkdir -p "$to/reports" "$to/attempts"
for track in "$@"; do
  benchmark="$("$python" -c 'import sys; from compliance.tracks import load_track
print(load_track(sys.argv[1]).benchmark)' "$track")"
  rm -rf "${to:?}/$benchmark" "$to/attempts/$benchmark"
  mkdir -p "$to/attempts/$benchmark"
  cp -R "$from/$benchmark" "$to/$benchmark"
  cp "$from/attempts/$benchmark/ledger.jsonl" "$to/attempts/$benchmark/"
  cp "$from/reports/$benchmark.txt" "$from/reports/$benchmark.json" "$to/reports/"
done
cp "$from/system.json" "$to/system.json"

cd "$root"
export PYTHONPATH="$root"
reports="results/$system/reports"
"$python" -m compliance check "results/$system"
"$python" -m compliance report "results/$system" --format markdown > "$reports/report.md"
"$python" -m compliance report "results/$system" --html "$reports/report.html" > /dev/null
"$python" -m compliance.report.log_page > "$work/log-format.md"
cp "$work/log-format.md" docs/log-format.md
echo "wrote results/$system: $reports/report.html"
