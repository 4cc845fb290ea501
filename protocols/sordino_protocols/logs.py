"""Logs: JSON lines for machines, a readable line on a terminal.

Events are stable snake_case names with fields. No record, no row count, no text of a library's
exception goes into a field: that is the caller's promise, and a test follows a canary through it.
"""

import logging
import sys
from typing import TextIO

import structlog


def configure_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging: to `stream`, by default stderr."""
    stream = stream or sys.stderr
    is_terminal = stream.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(name)s: %(message)s")
