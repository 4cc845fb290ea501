"""A site whose disk runs full: it says so, loses nothing, and goes on when there is room again."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, Federation, make_job
from full_disk import SmallDisk, largest_file, no_file_longer_than, small_disk

from sordino_client.ledger import read_entries
from sordino_protocols.job import SignedJob, new_nonce, sign_job
from sordino_protocols.logs import configure_logging
from sordino_protocols.messages import (
    Admission,
    Admit,
    Message,
    Receipt,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
    Update,
)
from sordino_protocols.wire import open_sealed, seal

ROUNDS = 12
RUN = "train-1"
_PAGE = 4096
_TEXT = JOB.replace("rounds = 3", f"rounds = {ROUNDS}")
_LEFT = (0, 1, 2, 3, 4, 6, 8, 12)

Trouble = Callable[[int], AbstractContextManager[None]]


class _Conversation:
    """The server's end of a run with site a."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.site = federation.sites["a"]
        self.job = make_job(_TEXT)

    def signed(self) -> SignedJob:
        return sign_job(self.job, self._federation.submitter, purpose="train", nonce=new_nonce())

    def ask(self, message: Message) -> tuple[bytes, Message]:
        envelope = self.site.answer(seal(message, self._federation.server))
        return envelope, open_sealed(envelope, self._federation.trusted_sites).message

    def round(self, number: int) -> RoundPlan:
        size = 4 + self.job.plan.extra_coordinates
        return RoundPlan(RUN, self.job.digest(), number, np.zeros(size, dtype=np.float32))


@contextmanager
def _on_a_small_disk(disk: SmallDisk, pages: int) -> Iterator[None]:
    disk.fill(room=pages * _PAGE)
    try:
        yield
    finally:
        disk.clear()


@contextmanager
def _with_short_files(directory: Path, pages: int) -> Iterator[None]:
    # A write that begins within the limit is cut short there, one that begins beyond it fails.
    longest = largest_file(directory) + (pages - 4) * _PAGE // 4 if pages else 0
    with no_file_longer_than(longest):
        yield


@pytest.fixture(params=["full disk", "largest file"])
def conversation(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[_Conversation, Trouble]]:
    # What this process logs must not be cut short with the site's files.
    configure_logging(stream=io.StringIO())
    if request.param == "largest file":
        federation = Federation(tmp_path, ("a",))
        directory = federation.sites["a"].directory
        yield _Conversation(federation), lambda pages: _with_short_files(directory, pages)
        federation.close()
        return
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        federation = Federation(disk.path, ("a",))
        yield _Conversation(federation), lambda pages: _on_a_small_disk(disk, pages)
        federation.close()


def test_a_round_at_a_full_disk_is_refused_as_unavailable_and_made_once_there_is_room(
    conversation: tuple[_Conversation, Trouble],
) -> None:
    talk, trouble = conversation
    _, admitted = talk.ask(Admit(RUN, talk.signed()))
    assert isinstance(admitted, Admission)
    refused = 0
    for number, pages in enumerate(_LEFT, start=1):
        with trouble(pages):
            said = [talk.ask(talk.round(number)) for _ in range(2)]
        refused += isinstance(said[0][1], Refused)
        release, update = talk.ask(talk.round(number))
        assert isinstance(update, Update)
        for envelope, reply in said:
            # Of what was released already, the same bytes; else an enum.
            is_enum = isinstance(reply, Refused) and reply.refusal is Refusal.UNAVAILABLE
            assert is_enum or envelope == release
    # With no page left nothing goes; with many everything does: both were seen.
    assert 1 <= refused < len(_LEFT)
    ledger = talk.site.ledger
    ledger.verify()
    assert ledger.halted is None
    assert ledger.steps(RUN) == tuple(f"round-{number}" for number in range(1, len(_LEFT) + 1))
    kinds = [str(entry["kind"]) for entry in read_entries(talk.site.directory / "ledger.db")]
    assert kinds.count("reserve") == kinds.count("commit") == len(_LEFT)


def test_admission_and_settling_go_on_after_a_full_disk(
    conversation: tuple[_Conversation, Trouble],
) -> None:
    talk, trouble = conversation
    admit, settle = Admit(RUN, talk.signed()), Settle(RUN, talk.job.digest())
    for request, expected in ((admit, Admission), (settle, Receipt)):
        with trouble(0):
            _, said = talk.ask(request)
            assert isinstance(said, Refused)
            assert said.refusal is Refusal.UNAVAILABLE
        assert isinstance(talk.ask(request)[1], expected)
    talk.site.ledger.verify()
    assert talk.site.held == 0


def test_no_half_files_are_left_behind(conversation: tuple[_Conversation, Trouble]) -> None:
    talk, trouble = conversation
    talk.ask(Admit(RUN, talk.signed()))
    for number, pages in enumerate(_LEFT, start=1):
        with trouble(pages):
            talk.ask(talk.round(number))
        assert list(talk.site.directory.rglob("*.new")) == []


def test_a_site_that_was_restarted_at_a_full_disk_goes_on_with_the_same_books(
    conversation: tuple[_Conversation, Trouble],
) -> None:
    talk, trouble = conversation
    talk.ask(Admit(RUN, talk.signed()))
    with trouble(0):
        talk.ask(talk.round(1))
    talk.site.open()
    assert isinstance(talk.ask(talk.round(1))[1], Update)
    assert talk.site.ledger.steps(RUN) == ("round-1",)
