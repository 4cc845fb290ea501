"""What a site forgets of runs that are over, and what it never does."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import Federation, SmallSite
from unruly import away_for, requests

from sordino_client.books import Books
from sordino_client.continuity import missing_entries
from sordino_client.outbox import Outbox
from sordino_client.retention import SECONDS_A_DAY, Retention, prune
from sordino_client.witness import WitnessStore, read_witness
from sordino_protocols.messages import Refusal, Refused, RoundPlan, Settle, Update
from sordino_protocols.wire import open_sealed

DAY = SECONDS_A_DAY


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    running = Federation(tmp_path, ("a", "b", "c"))
    yield running
    running.close()


def finished(federation: Federation) -> str:
    run = federation.submit()
    federation.coordinator(run).execute()
    return run.run_id


def look(site: SmallSite, *, days: float) -> None:
    witness = WitnessStore(site.directory / "witness")
    Retention(site.outbox, witness, site.ledger, keep_days=days).look()


def age(site: SmallSite, run_id: str, days: float) -> None:
    """Let the run's receipt be so old."""
    then = time.time() - days * DAY
    os.utime(site.directory / "outbox" / run_id / "receipt.release", (then, then))


def test_of_a_run_that_is_over_for_long_only_what_proves_the_ledger_stays(
    federation: Federation,
) -> None:
    run_id, site = finished(federation), federation.sites["a"]
    before = site.outbox.releases(run_id)
    assert {"round-1", "round-2", "round-3", "evaluation"} < set(before)
    assert len(read_witness(site.directory / "witness", run_id)) == 3
    age(site, run_id, 31)
    look(site, days=30)
    assert site.outbox.releases(run_id) == ("admission", "receipt")
    assert read_witness(site.directory / "witness", run_id) == []
    # After a restart the ledger is still held to what was answered.
    assert missing_entries(site.ledger.books, site.outbox) == ()
    site.open()
    assert site.ledger.halted is None


def test_a_run_that_is_over_since_yesterday_keeps_all(federation: Federation) -> None:
    run_id, site = finished(federation), federation.sites["a"]
    before = site.outbox.releases(run_id)
    age(site, run_id, 29)
    look(site, days=30)
    assert site.outbox.releases(run_id) == before


def test_of_a_run_that_was_not_settled_nothing_is_forgotten_however_old(
    federation: Federation,
) -> None:
    site, run = federation.sites["a"], federation.submit()
    federation.coordinator(run, federation.grid({"a": away_for(federation, "a", Settle)})).execute()
    run_id = run.run_id
    before = site.outbox.releases(run_id)
    assert "receipt" not in before
    for path in (site.directory / "outbox" / run_id).iterdir():
        os.utime(path, (0, 0))
    look(site, days=1)
    assert site.outbox.releases(run_id) == before


def test_a_receipt_without_its_entry_frees_nothing(federation: Federation) -> None:
    # An old copy of the ledger: the receipt says settled, the books do not.
    run_id, site = finished(federation), federation.sites["a"]
    witness = WitnessStore(site.directory / "witness")
    pruned = prune(site.outbox, witness, Books(), older_than_seconds=0, now=time.time() + DAY)
    assert pruned.runs == ()
    assert "round-1" in site.outbox.releases(run_id)


def test_a_forgotten_release_is_refused_and_never_made_again(federation: Federation) -> None:
    run_id, site = finished(federation), federation.sites["a"]
    asked = requests(federation, "a", RoundPlan)[0]
    settled = requests(federation, "a", Settle)[0]
    receipt = site.answer(settled)
    first = open_sealed(site.answer(asked), federation.trusted_sites).message
    assert isinstance(first, Update)
    age(site, run_id, 31)
    look(site, days=30)
    length = site.ledger.length
    refused = open_sealed(site.answer(asked), federation.trusted_sites).message
    assert refused == Refused(run_id, Refusal.OUT_OF_ORDER)
    # The receipt is still the same bytes, and nothing was charged.
    assert site.answer(settled) == receipt
    assert site.ledger.length == length


def test_a_release_that_somebody_else_removed_is_an_integrity_error_while_the_run_goes_on(
    federation: Federation,
) -> None:
    run = federation.submit()
    site = federation.sites["a"]

    def thief(envelope: bytes) -> bytes | None:
        reply = site.answer(envelope)
        message = open_sealed(envelope, site.server).message
        if isinstance(message, RoundPlan) and message.round == 2:
            Outbox(site.directory / "outbox").forget(run.run_id, "round-2")
            again = open_sealed(site.answer(envelope), federation.trusted_sites).message
            assert again == Refused(run.run_id, Refusal.INTEGRITY)
        return reply

    federation.coordinator(run, federation.grid({"a": thief})).execute()
