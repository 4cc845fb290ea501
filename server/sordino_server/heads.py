"""What the server remembers of every site's ledger: its newest heads, signed by the site itself.

A ledger that was restored from an old copy is a perfect chain; only somebody who kept a newer head
can tell. So every head that a site signs is kept here, durably and for ever, and shown to the site
again before a run (`messages.Recall`). Two heads of one length with different hashes are two
histories: a fork. A fresh answer that is shorter than what the site signed before has lost entries:
a regression. What must stay true: only a head that the site signed is kept, and nothing that
contradicts a kept one ever takes its place.

Several server apps share one folder, each a process: whoever writes has the folder's lock.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sordino_protocols.audit_heads import Head, note_head
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.certificate_facts import HeadFacts, head_facts
from sordino_protocols.errors import IntegrityError
from sordino_protocols.files import STRICT
from sordino_protocols.heads import GENESIS, SignedHead, verify_head
from sordino_protocols.signing import TrustStore, check_name
from sordino_server.storage import Storage, storage_at

_LOCK = "lock"
_KEPT = 64
"""Heads of a site that are compared with new ones; the longest is always among them."""


class Contradiction(StrEnum):
    """How a head contradicts what its site signed before."""

    FORK = "fork"
    REGRESSION = "regression"


class ContradictionError(IntegrityError):
    """A site showed a ledger that does not go on from the one it showed before.

    Attributes:
        site: whose ledger it is.
        contradiction: in what way.
        remembered: the head that is kept.
        shown: the head that does not fit it; the site signed both, so they prove it to anybody.
    """

    def __init__(
        self, site: str, contradiction: Contradiction, *, remembered: SignedHead, shown: SignedHead
    ) -> None:
        super().__init__(
            f"{contradiction}: the ledger of site {site} had {remembered.length} entries and head"
            f" {remembered.hash[:12]}, and now shows {shown.length} entries and head"
            f" {shown.hash[:12]}; at the site: sordino ledger verify, then sordino ledger recover;"
            f" here, when its admin has explained it: sordino server forget {site}"
        )
        self.site = site
        self.contradiction = contradiction
        self.remembered = remembered
        self.shown = shown


def remember(
    known: Sequence[SignedHead], head: SignedHead, *, site: str, is_fresh: bool = False
) -> tuple[SignedHead, ...]:
    """The known heads of a site with one more, by length; the newest `_KEPT` of them.

    A repeated answer has the head of when it was first given, so a shorter one proves nothing by
    itself; in an answer that was made just now it proves that entries are gone.

    Args:
        known: heads that fit each other, by length.
        head: verified.
        site: whose ledger it is.
        is_fresh: the answer was made now; see `messages.Recalled`.

    Raises:
        ContradictionError: it does not fit a known one.
    """
    for each in known:
        if each.length == head.length and each.hash != head.hash:
            raise ContradictionError(site, Contradiction.FORK, remembered=each, shown=head)
    if is_fresh and known and head.length < known[-1].length:
        raise ContradictionError(site, Contradiction.REGRESSION, remembered=known[-1], shown=head)
    by_length = {each.length: each for each in (*known, head)}
    return tuple(by_length[length] for length in sorted(by_length))[-_KEPT:]


class HeadStore:
    """A folder with the heads of every site; opened again, it knows what it knew."""

    def __init__(
        self, place: Path | Storage, sites: TrustStore, *, audit_log: AuditLog | None = None
    ) -> None:
        """Use a folder, made if missing.

        Args:
            place: where the heads are kept.
            sites: whose signatures count.
            audit_log: the server's, which keeps the heads of the sites' audit logs; None for a
                server that keeps none.
        """
        self._storage = storage_at(place)
        self._sites = sites
        self._audit_log = audit_log

    def note(self, site: str, head: SignedHead, *, is_fresh: bool = False) -> None:
        """Remember a head that a site showed; on disk when this returns.

        A fresh head that fits ends what contradicted: the ledger goes on from what was remembered.

        Args:
            site: who showed it.
            head: as it came; its signature is checked here.
            is_fresh: it answers `Recall`, which no site answers twice with the same bytes.

        Raises:
            AuthenticationError: the site did not sign it. Nothing is kept.
            ContradictionError: it does not fit what the site showed before. Both heads are kept as
                evidence, in `<site>.contradiction.json`, and the old one stays in force.
            IntegrityError: what was kept cannot be read.
        """
        verify_head(head, site=site, trust=self._sites)
        with self._storage.locked(_LOCK):
            known = self._read(site)
            try:
                kept = remember(known, head, site=site, is_fresh=is_fresh)
            except ContradictionError as error:
                evidence = _Heads(heads=(head_facts(error.remembered), head_facts(error.shown)))
                self._write(_evidence(site), evidence)
                raise
            if is_fresh:
                self._storage.rename(_evidence(site), f"{site}.contradiction.over.json")
            if kept != known:
                self._write(f"{site}.json", _Heads(heads=tuple(map(head_facts, kept))))

    def get(self, site: str) -> SignedHead | None:
        """The longest head that a site ever showed; None if it never showed one.

        Raises:
            IntegrityError: what was kept cannot be read.
            AuthenticationError: the site did not sign what was kept: somebody edited it.
        """
        known = self._read(site)
        return known[-1] if known else None

    @property
    def own_audit_head(self) -> Head:
        """Length and head of the server's audit log, to be shown to the sites."""
        log = self._audit_log
        return (0, GENESIS) if log is None else (log.length, log.head)

    def note_audit_log(self, site: str, head: Head, *, is_fresh: bool) -> bool:
        """Keep the head of a site's audit log, in the server's own; see `audit_heads.note_head`.

        Returns:
            whether it fits what the site showed before.
        """
        if self._audit_log is None:
            return True
        return note_head(self._audit_log, peer=site, head=head, is_fresh=is_fresh)

    def forget(self, site: str) -> None:
        """Begin anew with a site whose admin recovered its ledger: for a person to decide.

        What was known stays as `<site>.forgotten.json`, and what contradicted it as
        `<site>.contradiction.over.json`.
        """
        check_name(site)
        with self._storage.locked(_LOCK):
            self._storage.rename(f"{site}.json", f"{site}.forgotten.json")
            self._storage.rename(_evidence(site), f"{site}.contradiction.over.json")

    def _read(self, site: str) -> tuple[SignedHead, ...]:
        name = f"{check_name(site)}.json"
        content = self._storage.read(name)
        if content is None:
            return ()
        try:
            facts = _Heads.model_validate_json(content).heads
        except ValidationError:
            place = self._storage.describe(name)
            raise IntegrityError(f"{place}: remembered heads that cannot be read") from None
        heads = tuple(SignedHead(each.length, each.hash, each.signature) for each in facts)
        for head in heads:
            verify_head(head, site=site, trust=self._sites)
        return heads

    def _write(self, name: str, heads: "_Heads") -> None:
        self._storage.write(name, heads.model_dump_json(indent=2).encode())


def contradiction_at(storage: Storage, site: str) -> tuple[HeadFacts, HeadFacts] | None:
    """The remembered head and the one that does not fit it, of a site that nobody has explained.

    Args:
        storage: where a `HeadStore` keeps its heads.
        site: whose ledger it is.

    Raises:
        IntegrityError: what was kept cannot be read.
    """
    name = _evidence(check_name(site))
    content = storage.read(name)
    if content is None:
        return None
    try:
        remembered, shown = _Heads.model_validate_json(content).heads
    except ValueError:
        raise IntegrityError(f"{storage.describe(name)}: evidence that cannot be read") from None
    return remembered, shown


def _evidence(site: str) -> str:
    return f"{site}.contradiction.json"


class _Heads(BaseModel):
    model_config = STRICT

    heads: tuple[HeadFacts, ...]
