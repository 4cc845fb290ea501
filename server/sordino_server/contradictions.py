"""What sites showed that contradicts what they showed before, as far as nobody has explained it.

Read off the two places where the server keeps the proofs: the heads of ledgers, and its own audit
log. What must stay true: a contradiction is shown until the site goes on from what it had shown, or
a person says that it was explained, however many runs come and go in between.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sordino_protocols.audit_heads import contradictions
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_server.heads import contradiction_at
from sordino_server.page_facts import Contradicted, Record
from sordino_server.storage import Storage

Contradictions = Callable[[Iterable[str]], tuple[Contradicted, ...]]
"""Those of the sites of these names."""


class ContradictionReader:
    """Reads them; the audit log only when it has changed."""

    def __init__(self, heads: Storage, audit_log: Path) -> None:
        """Read nothing yet.

        Args:
            heads: where the heads of the sites' ledgers are kept.
            audit_log: the server's own.
        """
        self._heads = heads
        self._audit_log = audit_log
        self._stamp = (0, 0)
        self._rewritten: frozenset[str] = frozenset()

    def read(self, sites: Iterable[str]) -> tuple[Contradicted, ...]:
        """What contradicts, of these sites."""
        rewritten = self._rewritten_logs()
        found: list[Contradicted] = []
        for site in sites:
            found.extend(self._of_ledger(site))
            if site in rewritten:
                found.append(Contradicted(site, Record.AUDIT_LOG, ""))
        return tuple(found)

    def _of_ledger(self, site: str) -> Iterator[Contradicted]:
        try:
            found = contradiction_at(self._heads, site)
        except InputError:
            return  # no name of a site, so it never signed anything
        except IntegrityError:
            yield Contradicted(site, Record.LEDGER, "the proof of it was altered")
            return
        if found is not None:
            remembered, shown = found
            yield Contradicted(
                site,
                Record.LEDGER,
                f"it had {remembered.length} entries and the head {remembered.hash[:12]}, then"
                f" showed {shown.length} and {shown.hash[:12]}",
            )

    def _rewritten_logs(self) -> frozenset[str]:
        """The sites whose audit log did not go on; empty where the server's own says nothing.

        That the server's own log was altered is for `sordino audit-log verify` to say.
        """
        try:
            found = self._audit_log.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._rewritten = frozenset(contradictions(read_audit_log(self._audit_log)))
                self._stamp = stamp
        except (FileNotFoundError, NotFoundError, IntegrityError):
            return frozenset()
        return self._rewritten
