"""Logs: JSON lines for machines, a readable line on a terminal.

Events are stable snake_case names with fields. No record, no row count, no text of a library's
exception goes into a field: that is the caller's promise, and a test follows a canary through it.
What must stay true: a line that cannot be written is lost, and nothing else is: a full disk must
not end the work of whoever only wanted to tell of it. And whoever speaks in a process of ours,
a library, Python itself or an error that nobody caught, speaks in lines of ours.
"""

import contextlib
import logging
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Literal, TextIO

import structlog

from sordino_protocols.errors import SordinoError

Level = Literal["debug", "info", "warning", "error"]
"""What `[log] level` may say: the least important events that are logged."""

Fields = dict[str, str | list[str]]


class _LastingStream:
    """A stream whose writing never fails. Lines of several threads do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _LibraryHandler(logging.Handler):
    """What libraries log, as lines of ours: a machine that reads them meets one format only."""

    def __init__(self, level: int, *, is_quoting: bool) -> None:
        super().__init__(level)
        self._is_quoting = is_quoting

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(component="library").bind(logger=record.name)
        said: Fields = {"where": f"{record.filename}:{record.lineno}"}
        if self._is_quoting:
            said["text"] = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            said |= fields_of(record.exc_info[1])
        log.log(record.levelno, "library_said", **said)


def configure_logging(
    *, level: Level = "info", stream: TextIO | None = None, has_records: bool = False
) -> None:
    """Set up structlog and the standard library's logging: to `stream`, by default stderr.

    May be called again, to log more or less from then on, and has to be once a library that
    brings a handler of its own was imported.

    Args:
        level: the least important events that are logged; of libraries never less than warnings.
        stream: where to.
        has_records: whether this process has records at hand: then a library is not quoted, for
            its words may be about one; who spoke and where is all that is logged.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    target = stream or sys.stderr
    lasting = _LastingStream(target)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if target.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _without_texts,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=lasting),  # type: ignore[arg-type]
        # Not cached: a logger that was made before must follow a change of the level.
        cache_logger_on_first_use=False,
    )
    _hear_libraries(_LibraryHandler(max(number, logging.WARNING), is_quoting=not has_records))


def log_strays(component: str) -> None:
    """Log what would go to stderr as bare text: warnings, and errors that nobody catches.

    For a process that is ours from its beginning to its end.
    """
    log = structlog.get_logger(component=component)

    def log_uncaught(_kind: type[BaseException], error: BaseException, _: object) -> None:
        log.critical("uncaught", **fields_of(error))

    def log_of_thread(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
            log.error("uncaught_in_thread", **fields_of(given.exc_value))

    def log_ignored(given: "sys.UnraisableHookArgs") -> None:
        if given.exc_value is not None:
            log.error("ignored", **fields_of(given.exc_value))

    logging.captureWarnings(capture=True)
    sys.excepthook = log_uncaught
    threading.excepthook = log_of_thread
    sys.unraisablehook = log_ignored


def fields_of(error: BaseException) -> Fields:
    """What a log may say of an error: its kind, its way through the code, and its text if ours.

    The text of a library's error may quote what it stumbled over.
    """
    known: Fields = {"error": type(error).__name__, "trace": _trace(error.__traceback__)}
    return known | {"reason": str(error)} if isinstance(error, SordinoError) else known


def seconds_since(started: float) -> float:
    """How long something took that began at `started` of the monotonic clock: a `dur_s`."""
    return round(time.monotonic() - started, 3)


def _hear_libraries(handler: logging.Handler) -> None:
    """Be the only handler of all loggers that exist."""
    root = logging.getLogger()
    before = root.handlers[:]
    # First the new one: while there is none, Python writes bare text to stderr.
    root.addHandler(handler)
    for each in before:
        root.removeHandler(each)
    root.setLevel(handler.level)
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def _without_texts(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Instead of an exception, what may be said of it."""
    match event.pop("exc_info", None):
        case None | False:
            error = None
        case BaseException() as given:
            error = given
        case (_, BaseException() as given, _):
            error = given
        case _:
            error = sys.exc_info()[1]
    return event if error is None else {**fields_of(error), **event}


def _trace(trace: TracebackType | None) -> list[str]:
    """Files, lines and functions, from the outermost in; no source and no text."""
    return [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace)
    ]
