"""What is logged while a test does something, as a machine reads it."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sordino_protocols.logs import Level, configure_logging

Line = dict[str, object]


class Logged:
    """The lines so far."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def lines(self) -> list[Line]:
        """All of them, oldest first."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of(self, event: str) -> list[Line]:
        """Those of one event."""
        return [line for line in self.lines if line["event"] == event]


@contextmanager
def logged(*, level: Level = "debug", has_records: bool = False) -> Iterator[Logged]:
    """Log into memory, as a daemon does into a file; as it was before afterwards."""
    root, made = logging.getLogger(), Logged()
    before = (root.level, root.handlers[:])
    configure_logging(level=level, stream=made.stream, has_records=has_records)
    try:
        yield made
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        structlog.reset_defaults()
