"""How a daemon hears signals, and what it says when it ends: in processes of their own."""

import json
import subprocess
import sys

from sordino_protocols.errors import ExitCode

WAIT_SECONDS = 60
DAEMON = """
import os, signal, sys, threading
from sordino_protocols.daemons import call_on_hangup, run_daemon, wait_until_told
from sordino_protocols.errors import InputError

def serve(path, stop):
{}

sys.exit(run_daemon(["x"], "usage", serve, component="vault", reads_again=True))
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return subprocess.run(
        [sys.executable, "-c", DAEMON.format(indented)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )


def test_a_signal_at_the_worst_moment_still_ends_a_daemon() -> None:
    # The main thread holds the event's lock, as it does whenever it begins or ends to wait.
    done = run("with stop._cond:\n    os.kill(os.getpid(), signal.SIGTERM)\nwait_until_told(stop)")
    assert done.returncode == 0, done.stderr


def test_a_daemon_that_is_busy_hears_a_hangup_in_another_thread() -> None:
    done = run(
        """
heard = threading.Event()
def reload():
    print("main" if threading.current_thread() is threading.main_thread() else "other", flush=True)
    heard.set()
call_on_hangup(reload)
os.kill(os.getpid(), signal.SIGHUP)
heard.wait()
"""
    )
    assert (done.returncode, done.stdout) == (0, "other\n"), done.stderr


def test_what_ends_a_daemon_is_a_line_for_machines() -> None:
    done = run('raise InputError("site.toml:3: no such key")')
    (line,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert done.returncode == ExitCode.USAGE
    assert (line["component"], line["event"], line["level"]) == ("vault", "ended", "error")
    assert (line["reference"], line["reason"]) == ("E0200", "site.toml:3: no such key")


def test_a_bug_ends_a_daemon_with_its_place_and_without_its_words() -> None:
    done = run('int("zq-of-a-record-qz")')
    (line,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert done.returncode == 1
    assert (line["component"], line["event"], line["error"]) == ("vault", "uncaught", "ValueError")
    assert "serve" in line["trace"][-1]
    assert "zq" not in done.stderr
