"""Puts `tests/` on the path, so that `from statistical import assert_rate` works everywhere."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "audit"), str(TESTS / "workbench")]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """No test writes to the log of a command that another test ran: that stream is closed."""
    yield
    structlog.reset_defaults()
