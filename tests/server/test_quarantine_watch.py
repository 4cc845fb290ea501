"""Quarantines in the server's audit log: once each, before what ended them, whoever made them."""

from pathlib import Path

import pytest
from federation import Federation
from full_disk import no_file_longer_than
from logged import logged

from sordino_protocols.audit_log import AuditEntry, read_audit_log
from sordino_protocols.errors import UnreachableError
from sordino_server.decisions import open_decisions
from sordino_server.quarantine import QUARANTINE, quarantine_run, release_run
from sordino_server.quarantine_watch import QuarantineWatch, note_quarantines

REASON = "The promise was broken: far too little noise."
AUDIT, LATER = "ab" * 32, "cd" * 32


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server-audit.log"
    open_decisions(path)
    return path


def entries(log: Path) -> list[AuditEntry]:
    return list(read_audit_log(log))


def test_a_quarantine_is_put_on_record_once(federation: Federation, log: Path) -> None:
    watch = QuarantineWatch(federation.runs, log)
    run, other = federation.submit(), federation.submit()
    watch.look()
    assert entries(log) == []
    quarantine_run(run, reason=REASON, audit_hash=AUDIT)
    for _ in range(2):
        watch.look()
    # A server that was started again has seen nothing, and finds it on record.
    QuarantineWatch(federation.runs, log).look()
    (entry,) = entries(log)
    assert (entry.actor, entry.action, entry.object) == ("audit", "quarantined", run.run_id)
    assert (entry.decision, entry.reason) == ("deny", f"audit {AUDIT}: {REASON}")
    quarantine_run(other, reason=REASON, audit_hash=AUDIT)
    watch.look()
    assert [each.object for each in entries(log)] == [run.run_id, other.run_id]


def test_a_command_and_the_server_record_it_once_between_them(
    federation: Federation, log: Path
) -> None:
    watch, run = QuarantineWatch(federation.runs, log), federation.submit()
    quarantine_run(run, reason=REASON, audit_hash=AUDIT)
    note_quarantines(federation.runs, log)
    release_run(run, reason="a mistake", by="olga")
    open_decisions(log).released(run.run_id, by="olga", reason="a mistake")
    watch.look()
    quarantine_run(run, reason="Again.", audit_hash=LATER)
    watch.look()
    assert [(each.action, each.reason[:14]) for each in entries(log)] == [
        ("quarantined", f"audit {AUDIT[:8]}"),
        ("released", "a mistake"),
        ("quarantined", f"audit {LATER[:8]}"),
    ]


def test_a_disk_that_is_full_only_delays_it(federation: Federation, log: Path) -> None:
    watch, run = QuarantineWatch(federation.runs, log), federation.submit()
    quarantine_run(run, reason=REASON, audit_hash=AUDIT)
    with logged(), no_file_longer_than(0), pytest.raises(UnreachableError):
        watch.look()
    watch.look()
    assert len(entries(log)) == 1


def test_a_file_that_was_altered_keeps_no_other_from_the_record(
    federation: Federation, log: Path
) -> None:
    broken, run = federation.submit(), federation.submit()
    broken.save_content(QUARANTINE, b'{"quarantines": [{}]}')
    quarantine_run(run, reason=REASON, audit_hash=AUDIT)
    QuarantineWatch(federation.runs, log).look()
    assert [each.object for each in entries(log)] == [run.run_id]
