"""Keyed hashes that decide on which side of the split a privacy unit falls.

A unit's hash depends on the unit alone; identical records are told apart by a count that makes them
exchangeable. Without the key nobody can tell a side. The key outlives the process and the sides do
not, so what is computed here must stay as it is to the last bit: else the next start would train on
records that were held out.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sordino_client.data.storage import FeatureArray
from sordino_client.entities import Digests

Hashes = NDArray[np.uint64]
Labels = NDArray[np.float32]
Contents = NDArray[np.uint32]
Rows = NDArray[np.int64]

HASH_BITS = 64
_CHUNK_BYTES = 4 * 2**20


def record_hashes(features: FeatureArray, labels: Labels, key: bytes) -> Hashes:
    """Uniform in [0, 2**64), one a record [n].

    Each is a keyed hash of how many identical records stand before it and of its encoded content.
    """
    hash_key = _derived(key, b"sordino-split")
    fingerprints = _fingerprints(features, labels, hash_key)
    counts = identical_before(features, labels, fingerprints).astype("<i8").view("<u4")
    hashes = np.empty(len(labels), dtype=np.uint64)
    for rows in row_chunks(features):
        contents = _contents(features[rows], labels[rows])
        prefixes = counts.reshape(-1, 2)[rows]
        hashes[rows] = _hashed(np.column_stack([prefixes, contents]), hash_key)
    return hashes


def entity_hashes(digests: Digests, key: bytes) -> Hashes:
    """Uniform in [0, 2**64), one an entity: a keyed hash of its digest [entities, 2]."""
    contents = np.ascontiguousarray(digests, dtype="<u8").view("<u4")
    return _hashed(contents, _derived(key, b"sordino-entities"))


def row_chunks(features: FeatureArray) -> Iterator[slice]:
    """Slices that cover all rows [n, d] in order, each of a few megabytes."""
    rows = max(1, _CHUNK_BYTES // max(1, features.itemsize * features.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(features), rows))


def identical_before(
    features: FeatureArray, labels: Labels, fingerprints: Hashes
) -> NDArray[np.int64]:
    """How many identical records stand before each [n].

    Args:
        features: [n, d].
        labels: [n].
        fingerprints: [n], equal where records are. What they are besides has no effect: records
            that share one and differ are found, and counted one by one.
    """
    order = np.argsort(fingerprints, kind="stable")
    is_later = np.zeros(len(order), dtype=np.bool_)
    is_later[1:] = fingerprints[order[1:]] == fingerprints[order[:-1]]
    place = np.arange(len(order))
    begin = np.maximum.accumulate(np.where(is_later, 0, place))
    counts = np.empty(len(order), dtype=np.int64)
    counts[order] = place - begin
    later, first = order[is_later], order[begin[is_later]]
    for fingerprint in _shared_wrongly(features, labels, fingerprints, later=later, first=first):
        rows = np.flatnonzero(fingerprints == fingerprint)
        counts[rows] = _counted(_contents(features[rows], labels[rows]))
    return counts


def _shared_wrongly(
    features: FeatureArray, labels: Labels, fingerprints: Hashes, *, later: Rows, first: Rows
) -> set[int]:
    """Fingerprints that a later row shares with a first row although the two differ."""
    wrong = set[int]()
    for chunk in row_chunks(features[: len(later)]):
        rows, others = later[chunk], first[chunk]
        differ = _contents(features[rows], labels[rows]) != _contents(
            features[others], labels[others]
        )
        wrong.update(fingerprints[rows[np.any(differ, axis=1)]].tolist())
    return wrong


def _counted(contents: Contents) -> list[int]:
    """How many identical rows stand before each, by looking at each."""
    seen = Counter[bytes]()
    counts = []
    for record in _each(contents):
        counts.append(seen[record])
        seen[record] += 1
    return counts


def _fingerprints(features: FeatureArray, labels: Labels, hash_key: bytes) -> Hashes:
    """A random linear combination of each record's bits, modulo 2**64."""
    width = _contents(features[:0], labels[:0]).shape[1]
    # Odd, so that no bit of a column is lost; strong they need not be.
    drawn = hashlib.shake_128(hash_key).digest(8 * width)
    factors = np.frombuffer(drawn, dtype="<u8").astype(np.uint64) | np.uint64(1)
    fingerprints = np.empty(len(labels), dtype=np.uint64)
    for rows in row_chunks(features):
        contents = _contents(features[rows], labels[rows])
        fingerprints[rows] = contents.astype(np.uint64) @ factors
    return fingerprints


def _contents(features: FeatureArray, labels: Labels) -> Contents:
    """Features and labels beside each other, as words that are equal where records are."""
    # Adding 0.0 turns -0.0 into 0.0. Tokens are exact in float32.
    numbers = np.column_stack([features, labels]).astype("<f4") + np.float32(0.0)
    return numbers.view("<u4")


def _each(contents: Contents) -> Iterator[bytes]:
    """Each row's bytes."""
    content, size = contents.tobytes(), contents.itemsize * contents.shape[1]
    return (content[start : start + size] for start in range(0, len(content), size))


def _hashed(contents: Contents, hash_key: bytes) -> Hashes:
    keyed = hashlib.blake2b(digest_size=HASH_BITS // 8, key=hash_key)
    digests = []
    for content in _each(contents):
        unit = keyed.copy()  # a third faster than a new one
        unit.update(content)
        digests.append(unit.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=32, person=purpose).digest()
