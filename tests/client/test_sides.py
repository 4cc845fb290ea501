"""The hashes that decide a record's side: exact, and the same for ever."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sordino_client.data import sides
from sordino_client.data.sides import identical_before, record_hashes

KEY = bytes(range(32))
few_values = st.sampled_from([0.0, -0.0, 1.0, -0.5, 1e-30]).map(np.float32)
matrices = st.tuples(st.integers(0, 20), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, (shape[0], shape[1] + 1), elements=few_values)
)
Matrix = NDArray[np.float32]


def plain_counts(matrix: Matrix) -> list[int]:
    seen = Counter[bytes]()
    counts = []
    for row in matrix + np.float32(0.0):
        counts.append(seen[row.tobytes()])
        seen[row.tobytes()] += 1
    return counts


def plain_hashes(matrix: Matrix) -> list[int]:
    """What `record_hashes` promises, one record after the other."""
    hash_key = hashlib.blake2b(KEY, digest_size=32, person=b"sordino-split").digest()
    return [
        int.from_bytes(
            hashlib.blake2b(
                count.to_bytes(8, "little") + row.tobytes(), digest_size=8, key=hash_key
            ).digest(),
            "little",
        )
        for count, row in zip(plain_counts(matrix), matrix + np.float32(0.0), strict=True)
    ]


@given(matrices)
def test_a_hash_is_of_the_content_and_of_the_identical_ones_before(matrix: Matrix) -> None:
    got = record_hashes(matrix[:, :-1], matrix[:, -1], KEY)
    assert got.tolist() == plain_hashes(matrix)


def test_many_chunks_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(3).integers(0, 3, (500, 4)).astype(np.float32)
    monkeypatch.setattr(sides, "_CHUNK_BYTES", 64)
    got = record_hashes(matrix[:, :-1], matrix[:, -1], KEY)
    assert got.tolist() == plain_hashes(matrix)


@given(matrices, st.integers(1, 3))
def test_a_collision_of_fingerprints_has_no_effect(matrix: Matrix, different: int) -> None:
    content = (matrix + np.float32(0.0)).tolist()
    fingerprints = np.array(
        [hash(tuple(row)) % different for row in content], dtype=np.uint64
    ).reshape(len(matrix))
    got = identical_before(matrix[:, :-1], matrix[:, -1], fingerprints)
    assert got.tolist() == plain_counts(matrix)


def test_tokens_hash_as_the_numbers_they_are() -> None:
    tokens = np.random.default_rng(4).integers(0, 2**20, (50, 7))
    labels = np.zeros(50, np.float32)
    as_floats = record_hashes(tokens.astype(np.float32), labels, KEY)
    assert np.array_equal(record_hashes(tokens, labels, KEY), as_floats)
