"""Tests of the two scripts: the Python, the extra, the installation and the messages.

The scripts run in a copy of the project, with a stand-in for Python that records the requested
installations. One test lets the real pip try an unreachable index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TOOLS = "bash dirname cat cksum df awk grep tail cut rm mkdir cp chmod env flock mv sed".split()

# A Python outside a virtual environment.
BASE_PYTHON = os.path.realpath(sys._base_executable)
# Responds like Python to the calls of the scripts, and records these calls.
STAND_IN = """#!/bin/sh
case "$1 $2" in
  "-c "*base_prefix*) exec "{base}" "$@" ;;
  "-c "*) exec "{python}" "$@" ;;
  "--version "*) echo "Python 3.11.0" ;;
  "-m venv") for place; do :; done
             mkdir -p "$place/bin"; cp "$0" "$place/bin/python"; echo "venv" >> "{notes}" ;;
  "-m harness.devices.tpu_address") echo "address $3" >> "{notes}"; exit "${{FAKE_TPU:-0}}" ;;
  "-m pip") shift 2; echo "pip $*" >> "{notes}"; eval "${{FAKE_PIP:-true}}" ;;
  "-m harness") shift 2; echo "harness $*"; pwd ;;
  "-m pytest") shift 2; echo "pytest $*"; pwd ;;
  "-m tests.benchmarks.run") shift 2; echo "benchmarks $*"; pwd ;;
esac
"""


class Copy:
    """A copy of the scripts, and a PATH on which only the stand-in is Python."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.notes = folder / "a project", folder / "bin", folder / "notes"
        self.elsewhere = folder / "elsewhere"
        for place in (self.root / "requirements", self.bin, self.elsewhere):
            place.mkdir(parents=True)
        for name in ("run_and_time.sh", "run_tests.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, self.root / name)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        constraints = "requirements/constraints.txt"
        shutil.copy(ROOT / constraints, self.root / constraints)
        for tool in TOOLS:
            if shutil.which(tool):
                (self.bin / tool).symlink_to(shutil.which(tool))
        self.program("python3", STAND_IN.format(
            python=sys.executable, base=BASE_PYTHON, notes=self.notes))

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(self.root / script), *flags],
            cwd=self.elsewhere,
            env={"PATH": str(self.bin), **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def installed(self) -> list[str]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line.split(" -e ")[1] for line in lines if " -e " in line]


@pytest.fixture()
def copy(tmp_path) -> Copy:
    return Copy(tmp_path)


def only_line(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert "Traceback" not in done.stderr
    return line


class TestRunAndTime:
    def test_installs_once_and_hands_on_the_flags_from_any_folder(self, copy):
        first = copy.run("run_and_time.sh", "--track=ml-1m", "--org=a b")
        assert first.returncode == 0, first.stderr
        assert first.stdout.splitlines() == ["harness --track=ml-1m --org=a b", str(copy.elsewhere)]
        second = copy.run("run_and_time.sh")
        assert second.stdout.startswith("harness") and second.stderr == ""
        assert copy.installed() == [".[cpu]"]

    def test_installs_with_the_constraints(self, copy):
        copy.run("run_and_time.sh")
        constraints = copy.root / "requirements" / "constraints.txt"
        assert f"-c {constraints} -e" in copy.notes.read_text()

    @pytest.mark.parametrize("name", ["pyproject.toml", "requirements/constraints.txt"])
    def test_installs_again_when_what_it_needs_changed(self, copy, name):
        copy.run("run_and_time.sh")
        with open(copy.root / name, "a") as file:
            file.write("\n# changed\n")
        copy.run("run_and_time.sh")
        assert copy.installed() == [".[cpu]", ".[cpu]"]

    @pytest.mark.parametrize(
        "flags, extra",
        [
            ([], "cpu"), (["--device=gpu"], "cpu"), (["--device=tpu"], "tpu"),
            (["--device", "tpu"], "tpu"), (["--tpu=local"], "tpu"), (["--tpu", "local"], "tpu"),
            (["--org=--tpu"], "cpu"),
        ],
    )  # fmt: skip
    def test_the_extra_fits_the_flags(self, copy, flags, extra):
        copy.run("run_and_time.sh", *flags)
        assert copy.installed() == [f".[{extra}]"]

    def test_the_tuner_adds_its_extra_to_what_is_there(self, copy):
        copy.run("run_and_time.sh")
        done = copy.run("run_and_time.sh", "--tune", "--minutes=5")
        assert done.stdout.splitlines()[0] == "harness --tune --minutes=5"
        assert copy.run("run_and_time.sh", "--notune").stderr == ""
        assert copy.installed() == [".[cpu]", ".[cpu,tune]"]

    def test_the_extra_is_gpu_where_nvidia_smi_answers(self, copy):
        copy.program("nvidia-smi", "#!/bin/sh\necho 'GPU 0: a'\n")
        copy.run("run_and_time.sh")
        assert copy.installed() == [".[gpu]"]

    def test_the_extra_is_cpu_where_nvidia_smi_fails(self, copy):
        copy.program("nvidia-smi", "#!/bin/sh\necho 'no GPU'\nexit 9\n")
        copy.run("run_and_time.sh")
        assert copy.installed() == [".[cpu]"]

    def test_another_extra_gets_an_environment_of_its_own(self, copy):
        copy.run("run_and_time.sh")
        copy.run("run_and_time.sh", "--device=tpu")
        copy.program("nvidia-smi", "#!/bin/sh\necho 'GPU 0: a'\n")
        copy.run("run_and_time.sh")
        names = sorted(path.parent.name for path in copy.root.glob(".venv*/.neumf-stamp"))
        assert names == [".venv", ".venv-gpu", ".venv-tpu"]
        assert copy.installed() == [".[cpu]", ".[tpu]", ".[gpu]"]
        # Both are reused unchanged.
        assert copy.run("run_and_time.sh").stderr == "" == copy.run(
            "run_and_time.sh", "--device=tpu").stderr

    @pytest.mark.parametrize("flags", [["--tpu=grpc://host:8470"], ["--tpu", "grpc://host:8470"]])
    def test_the_address_of_a_tpu_is_tried_before_anything_is_installed(self, copy, flags):
        copy.run("run_and_time.sh")
        before = (copy.root / ".venv" / ".neumf-stamp").read_bytes()
        done = copy.run("run_and_time.sh", *flags, FAKE_TPU="1")
        assert done.returncode == 1 and "address grpc://host:8470" in copy.notes.read_text()
        assert copy.installed() == [".[cpu]"] and not (copy.root / ".venv-tpu").exists()
        assert (copy.root / ".venv" / ".neumf-stamp").read_bytes() == before
        assert copy.run("run_and_time.sh", *flags).returncode == 0
        assert copy.installed() == [".[cpu]", ".[tpu]"]

    def test_an_environment_of_an_earlier_version_for_a_device_is_left_alone(self, copy):
        (copy.root / ".venv").mkdir()
        stamp = copy.root / ".venv" / ".neumf-stamp"
        stamp.write_text("gpu 1 2\n")
        done = copy.run("run_and_time.sh")
        assert done.returncode == 1 and "was made for gpu" in done.stderr
        assert stamp.read_text() == "gpu 1 2\n" and not copy.notes.exists()

    def test_the_base_is_never_the_python_of_an_environment(self, copy, tmp_path):
        """An active environment comes first on PATH."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        copy.program("python3", f'#!/bin/sh\nexec "{tmp_path}/v/bin/python" "$@"\n')
        copy.run("run_and_time.sh", PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
        lines = (copy.root / ".venv" / "pyvenv.cfg").read_text().splitlines()
        (home,) = (line for line in lines if line.startswith("home = "))
        assert str(tmp_path) not in home and home.endswith("/bin")

    @pytest.mark.parametrize("script, begin", [
        ("run_and_time.sh", "Trains NeuMF"), ("run_tests.sh", "Sets up"),
        ("scripts/peers.sh", "Compares"), ("scripts/wheels.sh", "Fills"),
        ("scripts/example_results.sh", "Makes"), ("scripts/slurm.sbatch", "Trains on")])
    def test_help_needs_no_environment(self, tmp_path, script, begin):
        """Runs in a copy of the project, with a Python without packages."""
        root = tmp_path / "p"
        root.mkdir()
        for name in ("harness", "compliance", "scripts"):
            shutil.copytree(ROOT / name, root / name)
        for name in ("run_and_time.sh", "run_tests.sh"):
            shutil.copy(ROOT / name, root / name)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        path = f"{tmp_path / 'v' / 'bin'}:{os.environ['PATH']}"
        before = sorted(root.rglob("*.sh"))
        done = subprocess.run(["bash", root / script, "--help"], capture_output=True, text=True,
                              env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}, timeout=30)
        assert done.returncode == 0 and done.stdout.startswith(begin), done.stdout + done.stderr
        assert not list(root.glob(".venv*")) and sorted(root.rglob("*.sh")) == before

    def test_neumf_python_skips_the_set_up(self, copy):
        done = copy.run("run_and_time.sh", "--quiet", NEUMF_PYTHON=str(copy.bin / "python3"))
        assert done.stdout.startswith("harness --quiet")
        assert not copy.notes.exists() and not (copy.root / ".venv").exists()

    def test_help_works_with_the_real_harness(self, copy):
        done = subprocess.run(
            [ROOT / "run_and_time.sh", "--help"],
            cwd=copy.elsewhere,
            env={"PATH": os.environ["PATH"], "NEUMF_PYTHON": sys.executable},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stdout.startswith("Trains NeuMF")


class TestRunTests:
    def test_installs_the_test_extra_and_runs_in_the_project(self, copy):
        done = copy.run("run_tests.sh", "--slow", "tests/test_x.py", "-k", "a or b")
        assert done.stdout.splitlines() == ["pytest --slow tests/test_x.py -k a or b",
                                            str(copy.root)]  # fmt: skip
        assert copy.installed() == [".[cpu,test]"]

    def test_adds_to_what_is_there_and_is_enough_for_a_run(self, copy):
        copy.run("run_and_time.sh")
        copy.run("run_tests.sh")
        copy.run("run_and_time.sh")
        copy.run("run_tests.sh")
        assert copy.installed() == [".[cpu]", ".[cpu,test]"]
        assert copy.notes.read_text().splitlines().count("venv") == 1

    def test_the_whole_suite_goes_in_two_processes(self, copy):
        pytest.importorskip("xdist")
        for words in ([], ["--slow"]):
            done = copy.run("run_tests.sh", *words)
            whole = " ".join(["pytest", *words, "--numprocesses 2 --dist loadfile"])
            assert done.stdout.splitlines()[0] == whole

    def test_benchmarks_are_run_alone(self, copy):
        done = copy.run("run_tests.sh", "--benchmarks", "--processes", "3")
        assert done.stdout.splitlines()[0] == "benchmarks --processes 3"


class TestWhatGoesWrong:
    def test_python_too_old(self, copy):
        copy.program("python3", "#!/bin/sh\n[ $1 = --version ] && echo 'Python 3.8.1' || exit 1\n")
        line = only_line(copy.run("run_and_time.sh"))
        assert "Python 3.10 or newer" in line and "3.8.1" in line

    def test_no_python(self, copy):
        (copy.bin / "python3").unlink()
        assert "Python 3.10 or newer" in only_line(copy.run("run_and_time.sh"))

    def test_a_newer_name_is_found(self, copy):
        (copy.bin / "python3").rename(copy.bin / "python3.12")
        assert copy.run("run_and_time.sh").returncode == 0

    def test_disk_full_before_installing(self, copy):
        (copy.bin / "df").unlink()
        copy.program("df", "#!/bin/sh\necho header\necho x 9 9 2048 1% /\n")
        line = only_line(copy.run("run_and_time.sh"))
        assert "disk is full: 2 MiB" in line
        assert copy.installed() == []

    @pytest.mark.parametrize(
        "said, expected",
        [
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("Failed to establish a new connection: NewConnectionError", "cannot be reached"),
            ("ERROR: No matching distribution found for numpy", "lacks a package"),
            ("ERROR: metadata-generation-failed", "metadata-generation-failed"),
        ],
    )
    def test_what_pip_could_not_do(self, copy, said, expected):
        done = copy.run("run_and_time.sh", FAKE_PIP=f"echo '{said}'; false")
        line = only_line(done)
        assert expected in line and str(copy.root / ".venv-setup.log") in line
        assert said in (copy.root / ".venv-setup.log").read_text()
        assert len(done.stderr.splitlines()) == 2  # the progress and the error

    def test_a_failed_set_up_is_tried_again(self, copy):
        copy.run("run_and_time.sh", FAKE_PIP="false")
        assert copy.run("run_and_time.sh").returncode == 0

    def test_an_environment_that_somebody_else_made_is_left_alone(self, copy):
        (copy.root / ".venv" / "keep").mkdir(parents=True)
        line = only_line(copy.run("run_and_time.sh"))
        assert "was not made by this script" in line and "NEUMF_PYTHON=" in line
        assert (copy.root / ".venv" / "keep").is_dir() and not copy.notes.exists()

    def test_an_interrupted_set_up_is_finished_without_another_environment(self, copy):
        copy.run("run_and_time.sh", FAKE_PIP="kill -9 $PPID")
        assert (copy.root / ".venv").is_dir()
        assert copy.run("run_and_time.sh").returncode == 0
        assert copy.notes.read_text().splitlines().count("venv") == 1
        # A damaged environment is created again.
        (copy.root / ".venv" / "bin" / "python").unlink()
        assert copy.run("run_and_time.sh").returncode == 0
        assert copy.notes.read_text().splitlines().count("venv") == 2

    @pytest.mark.parametrize("command", [
        ["harness", "--num_runs=1"], ["compliance", "check", "x"], ["harness", "--print-completion",
                                                                   "bash"]])
    def test_a_python_without_the_packages_is_one_line(self, tmp_path, command):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        done = subprocess.run([tmp_path / "v" / "bin" / "python", "-m", *command], cwd=ROOT,
                              capture_output=True, text=True,
                              env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]})
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert "this Python lacks absl" in done.stderr and "pip install ." in done.stderr

    def test_an_index_that_is_not_there(self, copy):
        copy.program("python3", f'#!/bin/sh\nexec "{BASE_PYTHON}" "$@"\n')
        done = copy.run(
            "run_and_time.sh",
            PIP_CONFIG_FILE=os.devnull,
            PIP_INDEX_URL="http://127.0.0.1:9/simple",
            PIP_RETRIES="0",
            PIP_TIMEOUT="2",
        )
        assert "index cannot be reached" in only_line(done)

    def test_neumf_python_that_is_not_there(self, copy):
        line = only_line(copy.run("run_and_time.sh", NEUMF_PYTHON="/no/such/python"))
        assert "NEUMF_PYTHON=/no/such/python" in line

    def test_neumf_python_without_the_packages(self, copy, tmp_path):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        line = only_line(copy.run("run_and_time.sh", NEUMF_PYTHON=str(tmp_path / "v/bin/python")))
        assert "lacks the modules: absl" in line


@pytest.mark.parametrize("name", ["run_and_time.sh", "run_tests.sh", ".ci/run"])
def test_scripts_parse_and_are_executable(name):
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)
