"""Commitments bind coins, salt, run and site."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.coins import SALT_BYTES, commit, matches
from sordino_protocols.errors import InputError

SALT = bytes(range(SALT_BYTES))


@given(st.lists(st.booleans(), max_size=40), st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES))
def test_a_commitment_matches_its_own_reveal(inserted: list[bool], salt: bytes) -> None:
    commitment = commit(inserted, salt=salt, run_id="run", site="north")
    assert len(commitment) == 64
    assert matches(commitment, inserted, salt=salt, run_id="run", site="north")


def test_no_other_reveal_matches() -> None:
    coins = [True, False, False]
    commitment = commit(coins, salt=SALT, run_id="run", site="north")
    assert not matches(commitment, [True, True, False], salt=SALT, run_id="run", site="north")
    assert not matches(commitment, [*coins, False], salt=SALT, run_id="run", site="north")
    assert not matches(commitment, coins, salt=SALT[::-1], run_id="run", site="north")
    assert not matches(commitment, coins, salt=SALT, run_id="run2", site="north")
    assert not matches(commitment, coins, salt=SALT, run_id="run", site="south")
    assert not matches(commitment, coins, salt=SALT, run_id="runn", site="orth")


def test_a_bad_reveal_does_not_match_and_a_bad_salt_of_ours_is_an_error() -> None:
    assert not matches("é", [True], salt=SALT, run_id="run", site="north")
    assert not matches("", [True], salt=b"", run_id="run", site="north")
    with pytest.raises(InputError, match="32 bytes"):
        commit([True], salt=b"short", run_id="run", site="north")


def test_the_encoding_is_stable() -> None:
    """Changing it would break every commitment that is under way."""
    commitment = commit([True, False, True], salt=SALT, run_id="run", site="north")
    assert commitment == "022f2858dad4850c0579055e1f4a21a436f7823cae2f192a5d6b8e5fce89ce42"
