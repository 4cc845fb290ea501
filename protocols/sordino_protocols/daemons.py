"""How every daemon of ours starts and ends: one configuration file in, an exit code out."""

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.logs import configure_logging

_LOOK_SECONDS = 0.5


def wait_until_told(stop: threading.Event, *, on_hangup: Callable[[], None] | None = None) -> None:
    """Return when `stop` is set, by a signal's handler too.

    Never `stop.wait()` alone: Python runs handlers between instructions, and a signal that comes
    just before the main thread sleeps would be seen when it wakes up, which would be never.

    Args:
        stop: what ends the waiting.
        on_hangup: called in this thread, the main one, after each SIGHUP, never inside a handler:
            a handler runs wherever the program happens to be. None leaves SIGHUP as it is.
    """
    hangup = threading.Event()
    if on_hangup is not None:
        signal.signal(signal.SIGHUP, lambda *_: hangup.set())
    while not stop.wait(_LOOK_SECONDS):
        if on_hangup is not None and hangup.is_set():
            hangup.clear()
            on_hangup()


def run_daemon(
    arguments: Sequence[str],
    usage: str,
    serve: Callable[[Path, threading.Event], None],
    *,
    reads_again: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        arguments: of the command line: the configuration's path, and nothing else.
        usage: what is said when it is anything else.
        serve: gets the path, and an event that is set when it shall return.
        reads_again: whether SIGHUP means to read files again, by `wait_until_told`. One that comes
            before that is ignored: what it asks for is being read anyway.

    Returns:
        0 when it was told to end, else the exit code of what went wrong, which is said on stderr.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: {usage}\n")
        return int(ExitCode.USAGE)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if reads_again:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    configure_logging()
    try:
        serve(Path(arguments[0]), stop)
    except SordinoError as error:
        sys.stderr.write(f"error: {error}\n")
        return int(error.exit_code)
    return 0
