import json

import pytest
from crashes import crash_series
from pydantic import BaseModel

pytestmark = pytest.mark.system

COMPLETE = ["hold", "reserve", "commit"]


class Disk(BaseModel):
    """What lay on disk: kinds of ledger entries, and the release in the outbox."""

    kinds: list[str]
    stored: str | None


class Crash(BaseModel):
    """One crash: what had been sent, what lay on disk, and what two repetitions answered."""

    line: int
    lived: bool
    sent: str | None
    before: Disk
    again: tuple[str, str]
    after: Disk


RIGHT = "right-17"
BROKEN = {
    "pay_too_late-40": "a release was stored that was not paid for",
    "store_nothing-40": "one step has several releases",
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Crash]]:
    """All crashes, by what was run."""
    directory, names = tmp_path_factory.mktemp("crashes"), (RIGHT, *BROKEN)
    return crash_series("crashing.py", directory, names, Crash, seconds=600)


def broken_promises(crash: Crash) -> list[str]:
    """What of the ledger's promise this crash disproves."""
    found = []
    if crash.before.stored is not None and "reserve" not in crash.before.kinds:
        found.append("a release was stored that was not paid for")
    if crash.sent is not None and crash.before.kinds != COMPLETE:
        found.append("a release was sent before it was committed")
    if crash.before.kinds != crash.after.kinds[: len(crash.before.kinds)]:
        found.append("what was spent was given back")
    if crash.after.kinds != COMPLETE:
        found.append("the step was not paid exactly once in the end")
    releases = {crash.sent, crash.before.stored, *crash.again, crash.after.stored} - {None}
    if len(releases) != 1:
        found.append("one step has several releases")
    return found


def test_a_site_killed_anywhere_pays_once_and_has_one_release(
    series: dict[str, list[Crash]],
) -> None:
    crashes = series[RIGHT]
    problems = {each.line: broken_promises(each) for each in crashes}
    assert not any(problems.values()), problems
    # The crashes fell before and after every step that is on disk.
    assert {(len(each.before.kinds), each.before.stored is not None) for each in crashes} == {
        (1, False),
        (2, False),
        (2, True),
        (3, True),
    }
    assert [each.lived for each in crashes[-2:]] == [False, True]


@pytest.mark.parametrize(("name", "expected"), BROKEN.items())
def test_a_site_that_breaks_the_promise_is_found_out(
    series: dict[str, list[Crash]], name: str, expected: str
) -> None:
    assert expected in [problem for each in series[name] for problem in broken_promises(each)]


def test_the_repetitions_are_compared_with_what_was_sent_before() -> None:
    crash = Crash.model_validate(
        json.loads(
            '{"line": 1, "lived": false, "sent": "aa", "again": ["bb", "bb"],'
            ' "before": {"kinds": ["hold", "reserve", "commit"], "stored": "aa"},'
            ' "after": {"kinds": ["hold", "reserve", "commit"], "stored": "aa"}}'
        )
    )
    assert broken_promises(crash) == ["one step has several releases"]
    shrunk = crash.model_copy(update={"after": Disk(kinds=["hold"], stored="aa")})
    assert "what was spent was given back" in broken_promises(shrunk)
