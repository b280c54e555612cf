"""Child processes: requests, messages, output and termination."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from harness.processes.child_process import ChildProcess, last_output_line, run_child

# Answers its request on the pipe; the request selects how the process ends.
CHILD = """
import json, os, subprocess, sys, time
pipe = int(sys.argv[1].removeprefix("--pipe="))
request = json.loads(sys.stdin.read())
print("first line")
print("  last line  ", flush=True)
os.write(pipe, b'{"type": "progress"}\\n' + json.dumps({"request": request, "args": sys.argv[2:]}).encode())
if request["end"] == "partial":
    sys.exit(3)
os.write(pipe, b"\\n")
if request["end"] == "grandchild":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[pipe])
if request["end"] == "hang":
    time.sleep(60)
"""


@pytest.fixture()
def environment(tmp_path):
    (tmp_path / "some_child.py").write_text(CHILD)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def run(environment, end: str, **settings):
    return run_child("some_child", {"end": end}, environment, ["--more=1"], **settings)


def test_a_child_gets_its_request_and_sends_messages(environment):
    seen = []
    result = run(environment, "well", on_message=seen.append)
    assert result.message == {"request": {"end": "well"}, "args": ["--more=1"]}
    assert seen == [{"type": "progress"}, result.message]
    assert (result.returncode, result.output_line) == (0, "last line")


def test_an_incomplete_message_is_ignored(environment):
    result = run(environment, "partial")
    assert (result.message, result.returncode) == ({"type": "progress"}, 3)


def test_a_pipe_that_a_grandchild_holds_open_is_not_waited_for(environment):
    begun = time.monotonic()
    assert run(environment, "grandchild").returncode == 0
    assert time.monotonic() - begun < 30


def test_an_interrupted_call_ends_the_child(environment):
    def interrupt(message):
        if "request" in message:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(environment, "hang", on_message=interrupt)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("in_new_session", [True, False])
def test_a_child_has_a_process_group_of_its_own_if_asked(environment, tmp_path, in_new_session):
    with open(tmp_path / "output", "wb") as output:
        with ChildProcess("some_child", [], output, environment, (), in_new_session) as child:
            group = os.getpgid(child.process.pid)
            child.kill()
    assert (group != os.getpgrp()) == in_new_session


def test_a_waiting_parent_can_end_the_child(environment, tmp_path):
    waits = []
    with open(tmp_path / "output", "wb") as output:
        with ChildProcess("some_child", [], output, environment) as child:
            child.send_request('{"end": "hang"}')
            threading.Timer(1.5, child.process.kill).start()
            messages = list(child.messages(lambda: waits.append(1)))
            assert child.wait() < 0
    assert len(messages) == 2 and len(waits) > 2


def test_a_command_that_cannot_start_leaves_no_open_pipe(environment, monkeypatch, tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(OSError):
        run(environment, "well")
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "output, line",
    [(b"", ""), (b"\n \n", ""), (b"a\n  b \n\n", "b"), (b"x" * 400, "x" * 300), (b"\xff", "�")],
)
def test_the_last_output_line_is_short_and_not_blank(output, line):
    assert last_output_line(output) == line
