"""The server's memory of ledgers: what it keeps, and what it finds."""

import json
from pathlib import Path

import pytest
from certified import OUTSIDER, SITE_KEYS, store
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import AuthenticationError, IntegrityError
from sordino_protocols.heads import GENESIS, SignedHead, sign_head
from sordino_server.heads import (
    Contradiction,
    ContradictionError,
    HeadStore,
    contradiction_at,
    remember,
)
from sordino_server.storage import DirectoryStorage

SITE = "va"
TRUST = store(*SITE_KEYS.values())


def head(length: int, *, history: str = "a", site: str = SITE) -> SignedHead:
    """The head of a ledger of so many entries, in one history or another."""
    newest = f"{length:x}{history}".rjust(64, "0") if length else GENESIS
    return sign_head(SITE_KEYS[site], length=length, hash=newest)


@pytest.fixture
def heads(tmp_path: Path) -> HeadStore:
    return HeadStore(tmp_path / "heads", TRUST)


def test_knows_nothing_of_a_site_that_never_spoke(heads: HeadStore) -> None:
    assert heads.get(SITE) is None


def test_keeps_the_longest_head_across_a_restart(heads: HeadStore, tmp_path: Path) -> None:
    for length in (3, 9, 5):
        heads.note(SITE, head(length))
    assert HeadStore(tmp_path / "heads", TRUST).get(SITE) == head(9)


def test_sites_have_memories_of_their_own(heads: HeadStore) -> None:
    heads.note("va", head(9))
    heads.note("cleveland", head(2, site="cleveland"))
    assert (heads.get("va"), heads.get("cleveland")) == (head(9), head(2, site="cleveland"))


def test_only_what_the_site_signed_is_kept(heads: HeadStore) -> None:
    forged = sign_head(OUTSIDER, length=9, hash="0a" * 32)
    others = head(9, site="cleveland")
    for wrong in (forged, others):
        with pytest.raises(AuthenticationError):
            heads.note(SITE, wrong)
    with pytest.raises(AuthenticationError):
        heads.note("nobody", head(9))
    assert heads.get(SITE) is None


@pytest.mark.parametrize("length", [4, 9, 7])
def test_a_second_history_is_a_fork(heads: HeadStore, length: int) -> None:
    for known in (4, 7, 9):
        heads.note(SITE, head(known))
    with pytest.raises(ContradictionError, match="fork") as caught:
        heads.note(SITE, head(length, history="b"))
    assert caught.value.contradiction is Contradiction.FORK
    assert (caught.value.site, caught.value.remembered) == (SITE, head(length))
    assert heads.get(SITE) == head(9)


def test_a_repeated_answer_with_its_old_head_is_no_regression(heads: HeadStore) -> None:
    heads.note(SITE, head(9))
    heads.note(SITE, head(6))
    assert heads.get(SITE) == head(9)
    # And what it showed is known from now on.
    with pytest.raises(ContradictionError, match="fork"):
        heads.note(SITE, head(6, history="b"))


@pytest.mark.parametrize("length", [0, 8])
def test_a_fresh_answer_that_is_shorter_is_a_regression(heads: HeadStore, length: int) -> None:
    heads.note(SITE, head(9))
    with pytest.raises(ContradictionError, match="regression") as caught:
        heads.note(SITE, head(length), is_fresh=True)
    assert caught.value.contradiction is Contradiction.REGRESSION
    assert heads.get(SITE) == head(9)


def test_both_signed_heads_are_kept_as_evidence(heads: HeadStore, tmp_path: Path) -> None:
    heads.note(SITE, head(9))
    with pytest.raises(ContradictionError):
        heads.note(SITE, head(9, history="b"))
    evidence = json.loads((tmp_path / "heads" / f"{SITE}.contradiction.json").read_bytes())
    assert [each["hash"] for each in evidence["heads"]] == [
        head(9).hash,
        head(9, history="b").hash,
    ]


def test_what_contradicts_is_over_when_the_ledger_goes_on_or_a_person_decides(
    heads: HeadStore, tmp_path: Path
) -> None:
    storage = DirectoryStorage(tmp_path / "heads")

    def lose() -> None:
        with pytest.raises(ContradictionError):
            heads.note(SITE, head(8), is_fresh=True)
        found = contradiction_at(storage, SITE)
        assert found is not None
        assert [each.length for each in found] == [9, 8]

    heads.note(SITE, head(9))
    assert contradiction_at(storage, SITE) is None
    lose()
    heads.note(SITE, head(9))  # an old answer again: it says nothing of now
    assert contradiction_at(storage, SITE) is not None
    heads.note(SITE, head(9), is_fresh=True)
    assert contradiction_at(storage, SITE) is None
    lose()
    heads.forget(SITE)
    assert contradiction_at(storage, SITE) is None
    assert (tmp_path / "heads" / f"{SITE}.contradiction.over.json").exists()


def test_after_a_person_decided_a_site_begins_anew(heads: HeadStore, tmp_path: Path) -> None:
    heads.note(SITE, head(9))
    heads.forget(SITE)
    heads.forget(SITE)
    assert heads.get(SITE) is None
    assert (tmp_path / "heads" / f"{SITE}.forgotten.json").exists()
    heads.note(SITE, head(4, history="b"), is_fresh=True)
    assert heads.get(SITE) == head(4, history="b")


def test_what_was_kept_and_cannot_be_read_is_an_error(heads: HeadStore, tmp_path: Path) -> None:
    heads.note(SITE, head(9))
    path = tmp_path / "heads" / f"{SITE}.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(IntegrityError, match="cannot be read"):
        heads.get(SITE)
    with pytest.raises(IntegrityError):
        heads.note(SITE, head(10))


def test_a_memory_that_was_edited_is_found(heads: HeadStore, tmp_path: Path) -> None:
    heads.note(SITE, head(9))
    path = tmp_path / "heads" / f"{SITE}.json"
    path.write_text(path.read_text().replace('"length": 9', '"length": 8'))
    with pytest.raises(AuthenticationError):
        heads.get(SITE)


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ab"), st.booleans()), max_size=12))
def test_what_is_kept_never_shrinks_and_never_forks(
    shown: list[tuple[int, str, bool]],
) -> None:
    known: tuple[SignedHead, ...] = ()
    for length, history, is_fresh in shown:
        before = known
        try:
            known = remember(known, head(length, history=history), site=SITE, is_fresh=is_fresh)
        except ContradictionError:
            fits = all(
                each.length != length or each == head(length, history=history) for each in known
            )
            assert not fits or (is_fresh and length < known[-1].length)
        assert set(before) <= set(known)
        assert len({each.length for each in known}) == len(known)


def test_memory_is_bounded_and_keeps_the_newest() -> None:
    known: tuple[SignedHead, ...] = ()
    for length in range(1, 200):
        known = remember(known, head(length), site=SITE)
    assert len(known) == 64
    assert known[-1] == head(199)
