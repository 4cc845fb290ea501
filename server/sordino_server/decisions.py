"""What was decided at this server, and by whom, as entries of its audit log.

Declared facts only: names, digests, rules. A refused job is on record as well as an accepted one.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

from sordino_protocols.audit_heads import FORGOTTEN
from sordino_protocols.audit_log import AuditEntry, AuditLog
from sordino_protocols.errors import SordinoError
from sordino_protocols.job import Job, SignedJob

ENROLLED, SHUT_OUT = "site_enrolled", "site_shut_out"
QUARANTINED = "quarantined"


class Decisions:
    """The server's audit log in the server's own words. Threads may record at will.

    Every method raises IntegrityError if the log was changed, and UnreachableError if it cannot be
    written: then what was to be decided is not.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def accepted(self, signed: SignedJob, job: Job) -> None:
        """A job that will be queued."""
        section = job.file.job
        reason = f"{signed.purpose} {section.name} on {section.dataset}, signed"
        self._note(signed.submitter, "job_accepted", signed.digest, reason, decision="allow")

    def refused(self, caller: str, error: SordinoError) -> None:
        """A job that will not be queued, and why."""
        self._note(caller, "job_refused", "job", str(error), decision="deny")

    def members(self, names: Iterable[str]) -> None:
        """The sites that may join now, as far as that differs from what is on record."""
        now, before = set(names), enrolled_by(self._log.entries)
        for name in sorted(now - before):
            self._note("admin", ENROLLED, name, "its keys are in the server's directories")
        for name in sorted(before - now):
            self._note("admin", SHUT_OUT, name, "its keys are gone from the server's directories")

    def reloaded(self, what: str) -> None:
        """Files were read again because somebody said so."""
        self._note("admin", "reloaded", what, "told to by SIGHUP")

    def quarantined(self, run_id: str, audits: Sequence[tuple[str, str]]) -> None:
        """A run's quarantines, as far as they are not on record.

        Args:
            run_id: the run.
            audits: hash and finding of each audit that withheld its model, the oldest first.
        """
        entries = self._log.entries
        known = sum(each.action == QUARANTINED and each.object == run_id for each in entries)
        for audit_hash, finding in audits[known:]:
            reason = f"audit {audit_hash}: {finding}"
            self._note("audit", QUARANTINED, run_id, reason, decision="deny")

    def rejected(self, run_id: str, site: str, why: str) -> None:
        """A site's answer does not count, because no honest site would give it."""
        self._note("server", "answer_rejected", site, f"{why} in {run_id}", decision="deny")

    def released(self, run_id: str, *, by: str, reason: str) -> None:
        """A run's quarantine ended by a person's decision."""
        self._note(by, "released", run_id, reason, decision="allow")

    def forgotten(self, site: str, *, by: str, entries: int) -> None:
        """A site's ledger may begin anew."""
        self._note(by, "forgotten", site, f"its ledger had {entries} entries", decision="allow")

    def audit_log_forgotten(self, site: str, *, by: str) -> None:
        """A site's audit log may begin anew: what it contradicts was explained."""
        self._note(by, FORGOTTEN, site, "what it shows from now on counts", decision="allow")

    def _note(self, actor: str, action: str, what: str, reason: str, *, decision: str = "") -> None:
        self._log.record(
            actor=actor,
            action=action,
            object=what,
            decision=decision,
            reason=reason,
            policy_sha256=None,
        )


def open_decisions(path: Path) -> Decisions:
    """The decisions of a server whose audit log is at `path`; raises as `AuditLog` does."""
    return Decisions(AuditLog(path, now=lambda: dt.datetime.now(dt.UTC)))


def enrolled_by(entries: Iterable[AuditEntry]) -> set[str]:
    """The sites that are enrolled if an audit log is all that one knows."""
    enrolled: set[str] = set()
    for each in entries:
        match each.action:
            case "site_enrolled":
                enrolled.add(each.object)
            case "site_shut_out":
                enrolled.discard(each.object)
            case _:
                pass
    return enrolled
