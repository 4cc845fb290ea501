"""What a server remembers of the sites' ledgers, and how it waits for a person at a site."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
from federation import JOB, Federation, make_job
from one_site import DATASET
from unruly import asked, changing, requests

from sordino_client.outbox import Outbox
from sordino_client.recovery import Recoverer, SiteMemory
from sordino_protocols.heads import sign_head
from sordino_protocols.messages import (
    Admission,
    Admit,
    Message,
    Recall,
    Recalled,
    Refusal,
    Refused,
)
from sordino_protocols.rounds import RunState
from sordino_protocols.wire import open_sealed, seal
from sordino_server.coordinator import Coordinator
from sordino_server.exchange import Exchange
from sordino_server.heads import HeadStore
from sordino_server.local_grid import Answerer
from sordino_server.questions import RunFailedError
from sordino_server.runs import ADMISSIONS, QUOTES, RunDirectory
from sordino_server.statement import Admissions, Quotes
from sordino_server.strategy import Strategy

CHEAP = JOB.replace("epsilon = 4", "epsilon = 1")
ALL = CHEAP.replace("quorum = 2", "quorum = 3")


class Clock:
    """Time that passes by waiting, and a little by looking."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def remembering(federation: Federation, tmp_path: Path) -> Federation:
    """A federation with one run behind it, before which site b's disk was copied."""
    site = federation.sites["b"]
    site.close()
    shutil.copytree(site.directory, tmp_path / "copy")
    site.open()
    finish(federation, federation.submit(make_job(CHEAP)))
    return federation


def finish(federation: Federation, run: RunDirectory) -> None:
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE


def restore(federation: Federation, copy: Path) -> None:
    """Somebody at site b puts the old copy of its disk in place."""
    site = federation.sites["b"]
    site.close()
    shutil.rmtree(site.directory)
    shutil.copytree(copy, site.directory)
    site.open()


def events_of(run: RunDirectory, kind: str) -> list[dict[str, object]]:
    found = [dict(each) for each in run.events() if each["event"] == kind]
    return [{key: each[key] for key in each if key not in {"at", "event"}} for each in found]


# ------------------------------------------------------------------ ledgers that lost entries


def test_the_newest_head_of_every_site_is_remembered(remembering: Federation) -> None:
    for name, site in remembering.sites.items():
        head = remembering.heads.get(name)
        assert head is not None
        assert (head.length, head.hash) == (site.ledger.length, site.ledger.head)


def test_a_site_shows_that_its_ledger_is_whole_before_it_is_asked_anything(
    remembering: Federation,
) -> None:
    site = remembering.sites["b"]
    before = len(site.requests)
    finish(remembering, remembering.submit(make_job(CHEAP)))
    kinds = [type(asked(remembering, each)) for each in site.requests[before:]]
    assert kinds[:2] == [Recall, Admit]
    assert kinds.count(Recall) == 1


def test_a_site_with_an_old_copy_of_its_ledger_is_left_out(
    remembering: Federation, tmp_path: Path
) -> None:
    restore(remembering, tmp_path / "copy")
    run = remembering.submit(make_job(CHEAP))
    finish(remembering, run)
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "c"]
    assert events_of(run, "left_out") == [{"site": "b", "reason": "integrity"}]
    assert remembering.sites["b"].ledger.halted is not None
    # The last word to it is of the run that is over, not a question.
    assert requests(remembering, "b", Admit)[1:] == []


def test_a_server_that_remembers_nothing_takes_the_old_copy_for_whole(
    remembering: Federation, tmp_path: Path
) -> None:
    # What the memory is for: site b's own files are a perfect history, only not the whole one.
    restore(remembering, tmp_path / "copy")
    run = remembering.submit(make_job(CHEAP))
    forgetful = HeadStore(tmp_path / "nothing", remembering.trusted_sites)
    Coordinator(run, remembering.strategy(), forgetful).execute()
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "b", "c"]


def test_too_few_whole_ledgers_end_the_run_by_name(remembering: Federation, tmp_path: Path) -> None:
    restore(remembering, tmp_path / "copy")
    run = remembering.submit(make_job(ALL))
    expected = r"2 of 3 sites showed that their ledgers are whole; .* needs 3 \(b: integrity, .*\)"
    with pytest.raises(RunFailedError, match=expected):
        remembering.coordinator(run).execute()
    assert run.state() is RunState.FAILED


def test_a_price_names_the_site_that_lost_entries(remembering: Federation, tmp_path: Path) -> None:
    restore(remembering, tmp_path / "copy")
    run = remembering.submit(make_job(CHEAP), purpose="price")
    finish(remembering, run)
    quotes = run.read(QUOTES, Quotes)
    assert sorted(quotes.quotes) == ["a", "c"]
    assert quotes.refused == {"b": "integrity"}


@pytest.mark.parametrize("kind", [Recalled, Admission])
def test_a_site_that_shows_another_history_is_left_out(
    remembering: Federation, kind: type[Recalled | Admission]
) -> None:
    site, known = remembering.sites["b"], remembering.heads.get("b")
    assert known is not None
    other = sign_head(site.signer, length=known.length, hash="f" * 64)

    def forked(reply: Message) -> Message:
        match reply:
            case Recalled(run_id):
                return Recalled(run_id, other)
            case Admission():
                facts = {name: getattr(reply, name) for name in reply.__dataclass_fields__}
                return Admission(**facts | {"ledger_head": other})
            case _:
                return reply

    run = remembering.submit(make_job(CHEAP))
    grid = remembering.grid({"b": changing(remembering, "b", kind, forked)})
    remembering.coordinator(run, grid).execute()
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "c"]
    kept = remembering.heads.get("b")
    assert kept is not None
    assert kept.hash != other.hash


def test_a_ledger_head_that_its_site_did_not_sign_does_not_count(federation: Federation) -> None:
    def unsigned(reply: Message) -> Message:
        assert isinstance(reply, Admission)
        stranger = federation.sites["a"].signer
        facts = {name: getattr(reply, name) for name in reply.__dataclass_fields__}
        return Admission(**facts | {"ledger_head": sign_head(stranger, length=1, hash="f" * 64)})

    run = federation.submit(make_job(CHEAP))
    grid = federation.grid({"b": changing(federation, "b", Admission, unsigned)})
    federation.coordinator(run, grid).execute()
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "c"]
    kept = federation.heads.get("b")
    assert kept is None or kept.hash != "f" * 64


def test_who_is_left_out_again_and_again_is_no_progress(federation: Federation) -> None:
    run = federation.submit(make_job(CHEAP))
    for number in range(3):
        run.record("attempt", number=number)
        run.record("left_out", site="b", reason="integrity")
        run.record("waiting_for_approval", site="c")
    assert run.attempts_in_vain() == 3


# ------------------------------------------------------------------ a person who has to approve


def approving(federation: Federation, name: str, *, after: int, refusal: Refusal) -> Answerer:
    """A site that says `refusal` to so many admissions, and then what it says."""
    site, count = federation.sites[name], 0

    def answer(envelope: bytes) -> bytes:
        nonlocal count
        message = asked(federation, envelope)
        if isinstance(message, Admit) and (count := count + 1) <= after:
            site.requests.append(envelope)
            return seal(Refused(message.run_id, refusal), site.signer)
        return site.answer(envelope)

    return answer


def execute_with(federation: Federation, run: RunDirectory, changed: dict[str, Answerer]) -> Clock:
    clock = Clock()
    strategy = Strategy(
        Exchange(federation.grid(changed), poll_seconds=0.001),
        federation.server,
        federation.trusted_sites,
        clock=clock,
        sleep=clock.sleep,
    )
    Coordinator(run, strategy, federation.heads).execute()
    return clock


def test_a_run_waits_until_a_person_has_approved_and_says_so(federation: Federation) -> None:
    run = federation.submit(make_job(CHEAP))
    slow = approving(federation, "b", after=3, refusal=Refusal.APPROVAL_PENDING)
    clock = execute_with(federation, run, {"b": slow})
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "b", "c"]
    assert events_of(run, "waiting_for_approval") == [{"site": "b"}]
    asked_to_admit = requests(federation, "b", Admit)
    assert len(asked_to_admit) == 4
    assert len(set(asked_to_admit)) == 1
    assert clock.now > 2 + 3 + 4.5


@pytest.mark.parametrize("refusal", [Refusal.REJECTED, Refusal.APPROVAL_PENDING])
def test_without_a_yes_the_run_goes_on_with_the_others(
    federation: Federation, refusal: Refusal
) -> None:
    run = federation.submit(make_job(CHEAP))
    never = approving(federation, "b", after=1000, refusal=refusal)
    execute_with(federation, run, {"b": never})
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "c"]
    admitted = [each for each in run.events() if each.get("refused")]
    assert [each["refused"] for each in admitted] == [{"b": refusal.value}]


def test_a_run_that_needs_the_one_who_never_said_yes_ends_by_saying_so(
    federation: Federation,
) -> None:
    run = federation.submit(make_job(ALL))
    never = approving(federation, "b", after=1000, refusal=Refusal.APPROVAL_PENDING)
    with pytest.raises(RunFailedError, match=r"b: approval_pending"):
        execute_with(federation, run, {"b": never})


def test_admissions_and_receipts_are_kept_as_their_sites_signed_them(
    federation: Federation,
) -> None:
    run = federation.submit(make_job(CHEAP))
    finish(federation, run)
    for kind in ("admissions", "receipts"):
        for name, envelope in run.sealed(kind).items():
            opened = open_sealed(envelope, federation.trusted_sites)
            assert (opened.sender, opened.message.run_id) == (name, run.run_id)


def recover(federation: Federation) -> None:
    """The admin of site b looks into it, and recovers the ledger."""
    site = federation.sites["b"]
    site.close()
    outbox = Outbox(site.directory / "outbox")
    memory = SiteMemory(outbox, site.directory / "runs", {DATASET: DATASET})
    recoverer = Recoverer(site.directory / "ledger.db", memory, now=lambda: dt.datetime.now(dt.UTC))
    recoverer.recover("a disk was restored from its copy")
    recoverer.close()
    site.open()


def test_a_site_whose_admin_recovered_its_ledger_takes_part_again(
    remembering: Federation, tmp_path: Path
) -> None:
    restore(remembering, tmp_path / "copy")
    finish(remembering, remembering.submit(make_job(CHEAP)))
    before = remembering.heads.get("b")
    assert before is not None
    recover(remembering)
    assert remembering.sites["b"].ledger.halted is None
    run = remembering.submit(make_job(CHEAP))
    finish(remembering, run)
    assert sorted(run.read(ADMISSIONS, Admissions).sites) == ["a", "b", "c"]
    # Entries are counted on from what was lost, so what the server remembered stays true.
    after = remembering.heads.get("b")
    assert after is not None
    assert after.length > before.length
