"""Site and server hold each other's audit logs: what one rewrites, the other shows."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
from federation import JOB, SERVER, Federation, make_job

from sordino_protocols.audit_heads import check_heads, contradictions, heads_shown
from sordino_protocols.audit_log import AuditLog, read_audit_log
from sordino_protocols.errors import IntegrityError

CHEAP = JOB.replace("epsilon = 4", "epsilon = 1")


def run_once(federation: Federation) -> list[object]:
    """The sites whose audit log was found rewritten."""
    run = federation.submit(make_job(CHEAP))
    federation.coordinator(run).execute()
    return [each["site"] for each in run.events() if each["event"] == "audit_log_rewritten"]


def test_each_side_notes_the_others_head_and_the_files_prove_it(
    federation: Federation, tmp_path: Path
) -> None:
    assert run_once(federation) == []
    # Something happens at the server between two runs, and every site gets to know its head.
    decide(federation.audit_log)
    assert run_once(federation) == []
    server = read_audit_log(tmp_path / "audit.log")
    for name, site in federation.sites.items():
        entries = read_audit_log(site.directory / "audit.log")
        shown_to_server, shown_to_site = heads_shown(server, name), heads_shown(entries, SERVER)
        assert len(shown_to_server) == 3  # two receipts, and one answer to Recall
        assert len(shown_to_site) == 1
        check_heads(entries, shown_to_server, whose=name)
        check_heads(server, shown_to_site, whose=SERVER)


def test_a_site_that_rewrites_its_log_is_named_and_its_run_goes_on(
    federation: Federation, tmp_path: Path
) -> None:
    site = federation.sites["b"]
    run_once(federation)
    site.close()
    log = site.directory / "audit.log"
    log.unlink()
    log.with_name("audit.log.head").unlink()
    decide(AuditLog(log, now=lambda: dt.datetime.now(dt.UTC)))
    site.open()
    assert run_once(federation) == ["b"]
    server = read_audit_log(tmp_path / "audit.log")
    assert set(contradictions(server)) == {"b"}
    with pytest.raises(IntegrityError, match="audit log of b was rewritten"):
        check_heads(read_audit_log(log), heads_shown(server, "b"), whose="b")


def test_a_server_that_puts_an_old_log_back_is_named_at_every_site(
    federation: Federation, tmp_path: Path
) -> None:
    run_once(federation)
    for name in ("audit.log", "audit.log.head"):
        shutil.copy(tmp_path / name, tmp_path / f"old.{name}")
    decide(federation.audit_log)
    run_once(federation)
    for name in ("audit.log", "audit.log.head"):
        (tmp_path / f"old.{name}").rename(tmp_path / name)
    run_once(federation)
    for site in federation.sites.values():
        entries = read_audit_log(site.directory / "audit.log")
        assert contradictions(entries) == {SERVER: 1}


def decide(log: AuditLog) -> None:
    """Any entry."""
    log.record(
        actor="admin",
        action="reloaded",
        object="keys",
        decision="",
        reason="told to",
        policy_sha256=None,
    )
