import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.bits import pack_bits, unpack_bits
from sordino_protocols.errors import InputError


@given(st.lists(st.booleans(), max_size=40))
def test_bits_come_back(bits: list[bool]) -> None:
    packed = pack_bits(np.array(bits, dtype=np.bool_))
    assert unpack_bits(packed, len(bits)).tolist() == bits


def test_the_first_bit_is_the_highest() -> None:
    assert (
        pack_bits(np.array([True, False, False, False, False, False, False, True, True])) == "8180"
    )


@pytest.mark.parametrize(
    ("packed", "count"),
    [("8180", 8), ("8180", 17), ("8181", 9), ("zz", 8), ("8", 4), ("", 1), ("AB", 8), (" 80", 8)],
)
def test_other_spellings_are_refused(packed: str, count: int) -> None:
    with pytest.raises(InputError):
        unpack_bits(packed, count)
