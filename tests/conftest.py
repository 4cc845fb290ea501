"""Puts `tests/` on the path, so that `from statistical import assert_rate` works everywhere.

And the files that take longest first, so that workers that share the tests end at the same time.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "audit"), str(TESTS / "workbench")]

LONGEST_FIRST = (
    "test_synthesis",
    "test_demo",
    "test_guides",
    "test_tuning",
    "test_chaos",
    "test_rich_jobs",
    "test_vault",
    "test_three_hosts",
    "test_prometheus",
    "test_no_record_leaves",
    "test_site_fuzz",
    "test_federation",
    "test_validation",
    "test_site_runner",
    "test_coordinator_crash",
    "test_vault_people",
    "test_ledger_syscalls",
    "test_state_in_database",
    "test_reader",
    "test_renewal",
    "test_ledger_crash",
)
"""Files with system tests of half a minute and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files in the order in which they are best begun; each keeps the order of its tests."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """No test writes to the log of a command that another test ran: that stream is closed."""
    yield
    structlog.reset_defaults()
