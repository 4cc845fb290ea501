"""How every daemon of ours starts and ends: one configuration file in, an exit code out.

Signals are told to a daemon by a thread or by a list, never by what a handler does itself. Python
runs handlers in the main thread, between any two of its instructions: one that set an event at the
moment at which the main thread holds that event's lock would wait for ever.
"""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.logs import configure_logging, log_strays

_LOOK_SECONDS = 0.5


def wait_until_told(stop: threading.Event, *, on_hangup: Callable[[], None] | None = None) -> None:
    """Return when `stop` is set, by a signal too.

    Args:
        stop: what ends the waiting.
        on_hangup: called in this thread, the main one, after each SIGHUP. None leaves SIGHUP as it
            is, and so does a daemon that runs in another thread, which no signal reaches.
    """
    hangups: list[int] = []
    if on_hangup is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    # Looked at again and again: a handler runs only when the main thread does.
    while not stop.wait(_LOOK_SECONDS):
        if on_hangup is not None and hangups:
            hangups.clear()
            on_hangup()


def call_on_hangup(act: Callable[[], None]) -> None:
    """Call `act` after each SIGHUP, in a thread of its own.

    For a daemon whose main thread has other things to do than to wait. Main thread only.
    """
    signal.signal(signal.SIGHUP, lambda *_: _start(act))


def run_daemon(
    arguments: Sequence[str],
    usage: str,
    serve: Callable[[Path, threading.Event], None],
    *,
    component: str,
    reads_again: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: of the command line: the configuration's path, and nothing else.
        usage: what is said when it is anything else.
        serve: gets the path, and an event that is set when it shall return.
        component: what this daemon is called in logs.
        reads_again: whether SIGHUP means to read files again, by `wait_until_told` or
            `call_on_hangup`. One that comes before that is ignored: what it asks for is being read
            anyway.

    Returns:
        0 when it was told to end, else the exit code of what went wrong, which is said on stderr.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: {usage}\n")
        return int(ExitCode.USAGE)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _start(stop.set))
    if reads_again:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Not of Python: it writes to stderr as it likes. Read when it is imported, which is later.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    configure_logging()
    log_strays(component)
    try:
        serve(Path(arguments[0]), stop)
    except SordinoError as error:
        say_why(error, component)
        return int(error.exit_code)
    return 0


def say_why(error: SordinoError, component: str) -> None:
    """Tell why a process of ours ends: a person on a terminal, or whoever reads its log."""
    if sys.stderr.isatty():
        sys.stderr.write(f"error[{error.reference}]: {error}\n")
    else:
        log = structlog.get_logger(component=component)
        log.error("ended", reference=error.reference, reason=str(error))


def _start(act: Callable[[], None]) -> None:
    """In a thread without the bookkeeping, and the locks, of `threading`."""
    _thread.start_new_thread(act, ())
