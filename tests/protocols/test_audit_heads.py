"""Two logs that hold each other: neither side can rewrite what it once showed."""

import datetime as dt
from pathlib import Path

import pytest

from sordino_protocols.audit_heads import (
    FORGOTTEN,
    check_heads,
    contradictions,
    heads_shown,
    note_head,
)
from sordino_protocols.audit_log import AuditLog, read_audit_log
from sordino_protocols.errors import IntegrityError
from sordino_protocols.heads import GENESIS

NOW = dt.datetime(2026, 11, 22, 6, 30, tzinfo=dt.UTC)


def open_log(path: Path) -> AuditLog:
    return AuditLog(path, now=lambda: NOW)


def decide(log: AuditLog, what: str) -> None:
    log.record(
        actor="admin",
        action="admitted",
        object=what,
        decision="allow",
        reason="",
        policy_sha256=None,
    )


@pytest.fixture
def mine(tmp_path: Path) -> AuditLog:
    return open_log(tmp_path / "server.log")


@pytest.fixture
def theirs(tmp_path: Path) -> AuditLog:
    log = open_log(tmp_path / "site.log")
    for number in range(3):
        decide(log, f"run-{number}")
    return log


def show(theirs: AuditLog, mine: AuditLog, *, is_fresh: bool = True) -> bool:
    return note_head(mine, peer="site", head=(theirs.length, theirs.head), is_fresh=is_fresh)


def test_a_log_that_grows_fits_and_its_heads_are_on_record(
    mine: AuditLog, theirs: AuditLog, tmp_path: Path
) -> None:
    first = (theirs.length, theirs.head)
    assert show(theirs, mine)
    assert show(theirs, mine)  # nothing new
    decide(theirs, "run-3")
    assert show(theirs, mine)
    entries = read_audit_log(tmp_path / "server.log")
    assert heads_shown(entries, "site") == [first, (4, theirs.head)]
    assert not contradictions(entries)
    check_heads(theirs.entries, heads_shown(entries, "site"), whose="site")


def test_a_repeated_answer_shows_an_old_head_and_proves_nothing(
    mine: AuditLog, theirs: AuditLog
) -> None:
    old = (theirs.length, theirs.head)
    decide(theirs, "run-3")
    assert show(theirs, mine)
    assert note_head(mine, peer="site", head=old, is_fresh=False)
    # The same, made just now: entries are gone.
    assert not note_head(mine, peer="site", head=old, is_fresh=True)
    assert not note_head(mine, peer="site", head=(0, GENESIS), is_fresh=True)
    assert contradictions(mine.entries) == {"site": 2}
    # Said once, however often it is seen.
    assert not note_head(mine, peer="site", head=old, is_fresh=True)
    assert contradictions(mine.entries) == {"site": 2}


def test_a_log_begins_anew_when_a_person_says_that_it_was_explained(
    mine: AuditLog, theirs: AuditLog, tmp_path: Path
) -> None:
    assert show(theirs, mine)
    anew = open_log(tmp_path / "anew.log")
    decide(anew, "run-9")
    assert not show(anew, mine)
    for peer in ("other", "site"):
        assert contradictions(mine.entries) == {"site": 1}
        mine.record(
            actor="admin",
            action=FORGOTTEN,
            object=peer,
            decision="allow",
            reason="",
            policy_sha256=None,
        )
    assert contradictions(mine.entries) == {}
    assert show(anew, mine)
    # And counts from then on.
    assert not show(open_log(tmp_path / "empty.log"), mine)
    assert set(contradictions(mine.entries)) == {"site"}
    # What was shown before stays on record for whoever compares the files.
    assert (3, theirs.head) in heads_shown(mine.entries, "site")


def test_a_rewritten_log_is_found_at_once_and_by_whoever_compares_the_files(
    mine: AuditLog, theirs: AuditLog, tmp_path: Path
) -> None:
    assert show(theirs, mine)
    rewritten = open_log(tmp_path / "rewritten.log")
    for name in ("run-0", "run-of-somebody-else", "run-2"):
        decide(rewritten, name)
    assert not show(rewritten, mine, is_fresh=False)
    assert not show(rewritten, mine, is_fresh=False)
    assert contradictions(mine.entries) == {"site": 1}
    with pytest.raises(IntegrityError, match=r"audit log of site was rewritten.*3 entries"):
        check_heads(rewritten.entries, heads_shown(mine.entries, "site"), whose="site")
    shorter = theirs.entries[:2]
    with pytest.raises(IntegrityError, match="rewritten"):
        check_heads(shorter, [(3, theirs.head)], whose="site")


def test_a_side_that_does_not_say_and_a_head_that_cannot_be_leave_no_entry(mine: AuditLog) -> None:
    assert note_head(mine, peer="old", head=(0, GENESIS), is_fresh=True)
    assert not note_head(mine, peer="odd", head=(3, GENESIS), is_fresh=True)
    assert not note_head(mine, peer="odd", head=(0, "ab" * 32), is_fresh=True)
    assert mine.length == 0
