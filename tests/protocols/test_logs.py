"""Logs: one JSON object a line, whoever speaks; and a line that is lost ends no work."""

import errno
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from logged import logged

from sordino_protocols.errors import InputError
from sordino_protocols.logs import configure_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_is_one_object_with_time_level_and_event() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger(component="vault", site="clinic").info("released", run_id="run-1")
    logging.getLogger("flwr").error("gave %s", "up")
    ours, theirs = lines(stream)
    assert str(ours.pop("ts")).endswith("Z")
    assert ours == {
        "component": "vault",
        "site": "clinic",
        "event": "released",
        "level": "info",
        "run_id": "run-1",
    }
    assert (theirs["event"], theirs["logger"], theirs["text"], theirs["level"]) == (
        "library_said",
        "flwr",
        "gave up",
        "error",
    )


def test_the_level_can_be_changed_under_loggers_that_exist() -> None:
    stream = io.StringIO()
    configure_logging(level="warning", stream=stream)
    log = structlog.get_logger(component="server").bind(site="a")
    log.info("unheard")
    configure_logging(level="debug", stream=stream)
    structlog.get_logger(component="server").debug("heard")
    assert [line["event"] for line in lines(stream)] == ["heard"]


class FullDisk(io.StringIO):
    """A stream on a disk without room."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    closed = io.StringIO()
    for stream in (closed, FullDisk()):
        configure_logging(stream=stream)
        closed.close()
        structlog.get_logger(component="vault").info("released")
        logging.getLogger("flwr").error("gave up")


SECRET = "zz-of-a-record-zz"


def test_a_library_with_a_handler_of_its_own_speaks_once_and_in_our_lines() -> None:
    theirs, library = io.StringIO(), logging.getLogger("test.coloured")
    library.addHandler(logging.StreamHandler(theirs))
    library.propagate = False
    library.setLevel(logging.DEBUG)
    with logged() as heard:
        library.warning("\x1b[92mgave up\x1b[0m")
        library.info("starting")
    (line,) = heard.lines
    assert (line["logger"], line["text"]) == ("test.coloured", "\x1b[92mgave up\x1b[0m")
    assert theirs.getvalue() == ""


def test_where_records_are_a_library_is_not_quoted() -> None:
    with logged(has_records=True) as heard:
        logging.getLogger("pandas").error("could not convert %s", SECRET)
    (line,) = heard.lines
    assert SECRET not in str(line)
    assert line["logger"] == "pandas"
    assert str(line["where"]).startswith("test_logs.py:")


def failing_with(error: Exception) -> None:
    raise error


def test_an_exception_is_its_kind_and_its_place_and_its_text_only_if_it_is_ours() -> None:
    with logged() as heard:
        for error in (ValueError(SECRET), InputError("site.toml:3: no such key")):
            try:
                failing_with(error)
            except (ValueError, InputError):
                structlog.get_logger(component="x").exception("stumbled", run_id="run-1")
    theirs, ours = heard.lines
    assert SECRET not in str(theirs)
    assert "reason" not in theirs
    assert (theirs["error"], theirs["run_id"], theirs["level"]) == ("ValueError", "run-1", "error")
    assert str(theirs["trace"]).count("test_logs.py:") == 2
    assert "failing_with" in str(theirs["trace"])
    assert (ours["error"], ours["reason"]) == ("InputError", "site.toml:3: no such key")


STRAYS = f"""
import logging, threading, warnings
from sordino_protocols.logs import configure_logging, log_strays

class Unwilling:
    def __del__(self):
        raise KeyError("{SECRET}")

def fail():
    raise ValueError("{SECRET}")

configure_logging()
log_strays("vault")
warnings.warn("it is late")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Unwilling()
logging.getLogger("new").error("words")
fail()
"""


def test_a_process_of_ours_writes_nothing_but_lines_whoever_speaks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRAYS], capture_output=True, text=True, check=False, timeout=120
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "library_said",
        "uncaught_in_thread",
        "ignored",
        "library_said",
        "uncaught",
    ]
    assert "it is late" in lines[0]["text"]
    assert [line["error"] for line in lines if "error" in line] == [
        "ValueError",
        "KeyError",
        "ValueError",
    ]
    assert all(line["component"] and line["ts"] and line["level"] for line in lines)
    assert SECRET not in done.stderr
    assert (done.stdout, done.returncode) == ("", 1)
