"""kill -9 of the main process: no worker and no server outlives it, at whatever moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAR_TOO_LONG = 600  # seconds; a process that stays for ever fails the test instead of holding it up

MAIN = """
import sys
import tuning_helpers
from sb3_lecture.zoo.tuning_study import Job, run_workers

folder, preload = sys.argv[1:]
job = Job(folder + "/study.db", "s", 10, tuning_helpers.Family(folder + "/log"), folder + "/lock")
run_workers(job, 2, [preload])
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def main(tmp_path):
    """Start a study whose trials never end, with modules that its server imports; returns the process."""
    started = []

    def start(preload):
        here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = {**os.environ, "PYTHONPATH": here, "SLOW_IMPORT": str(tmp_path / "importing")}
        command = [sys.executable, "-c", MAIN, str(tmp_path), preload]
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(condition, process=None):
    deadline = time.monotonic() + FAR_TOO_LONG
    while not condition():
        assert process is None or process.poll() is None, "the main process ended by itself"
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_a_server_that_still_imports_ends_with_the_main_process(main, tmp_path):
    process, importing = main("slow_import"), tmp_path / "importing"
    until(lambda: importing.is_file() and importing.read_text(), process)
    server = int(importing.read_text())
    assert lives(server)
    process.send_signal(signal.SIGKILL)
    until(lambda: not lives(server))


def test_workers_in_the_middle_of_a_trial_end_with_the_main_process(main, tmp_path):
    process, log = main("sb3_lecture.zoo.tuning_study"), tmp_path / "log"
    until(lambda: log.is_file() and log.read_text().count("\n") == 2, process)
    family = {int(pid) for pid in log.read_text().split()}
    assert len(family) == 3 and all(map(lives, family))  # two workers, one server
    process.send_signal(signal.SIGKILL)
    until(lambda: not any(map(lives, family)))
