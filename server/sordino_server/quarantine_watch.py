"""Quarantines as decisions in the server's audit log, whoever made them.

An auditor withholds a model by a file beside its run, and need not be able to write anything else
of the server's. So the server looks for such files, and puts on record what is not. What must stay
true: a quarantine stands in the audit log once, and before the release that ended it.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from sordino_protocols.errors import SordinoError
from sordino_server.decisions import open_decisions
from sordino_server.quarantine import QUARANTINE, QuarantineFile
from sordino_server.runs import Runs
from sordino_server.trust import LOOK_SECONDS


class QuarantineWatch:
    """Looks every few seconds, on a thread of its own."""

    def __init__(self, runs: Runs, audit_log: Path) -> None:
        self._runs = runs
        self._audit_log = audit_log
        self._seen: Mapping[str, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="quarantines", daemon=True)
        self._log = structlog.get_logger(component="server")

    def start(self) -> None:
        """Look now, and again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Put on record what was not; raises as `note_quarantines` does."""
        found = self._runs.storage.read_each(QUARANTINE)
        if found != self._seen:
            _note(found, self._audit_log)
            self._seen = found

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except (SordinoError, SQLAlchemyError, OSError):
                # Looked at again: a full disk or a busy database must not lose it.
                self._log.exception("quarantine_not_recorded")
            if self._stop.wait(LOOK_SECONDS):
                return


def note_quarantines(runs: Runs, audit_log: Path) -> None:
    """Put the quarantines of all runs on record, as far as they are not.

    Args:
        runs: of the server.
        audit_log: of the server.

    Raises:
        IntegrityError: the audit log was changed.
        UnreachableError: it cannot be written, or the runs' database does not answer.
    """
    _note(runs.storage.read_each(QUARANTINE), audit_log)


def _note(found: Mapping[str, bytes], audit_log: Path) -> None:
    # Read anew: commands write to it as well.
    decisions = open_decisions(audit_log)
    for run_id, content in sorted(found.items()):
        try:
            quarantines = QuarantineFile.model_validate_json(content).quarantines
        except ValidationError:
            # The model of such a run is withheld, and whoever asks for it is told why.
            structlog.get_logger(component="server").error("quarantine_unreadable", run_id=run_id)
            continue
        decisions.quarantined(run_id, [(each.audit_hash, each.reason) for each in quarantines])
