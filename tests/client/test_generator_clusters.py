import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import NoNoise, SeededNoise

from sordino_client.synthesis.generators.clusters import (
    cluster_sums,
    find_clusters,
    kernel_features,
    on_grid,
)

SIZES = (4, 3, 5, 2, 6)
GRID = 2.0**20


def two_groups(units: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """Records near one of two corners of the domain, in turn."""
    rng = np.random.default_rng(1)
    corners = np.array([[0, 0, 0, 0, 0], [3, 2, 4, 1, 5]])
    cells = corners[np.arange(units) % 2]
    is_moved = rng.random(cells.shape) < 0.15
    return np.where(is_moved, rng.integers(SIZES, size=cells.shape), cells).astype(np.int32)


records = st.lists(
    st.tuples(*(st.integers(0, size - 1) for size in SIZES)), min_size=1, max_size=20
)


@settings(max_examples=50, deadline=None)
@given(records)
def test_one_unit_changes_counts_and_sums_by_root_two_at_most(rows: list[tuple[int, ...]]) -> None:
    features = kernel_features(np.array(rows, dtype=np.int32), SIZES)
    members = np.arange(len(rows)) % 3
    whole = cluster_sums(features, members, 3)
    less = cluster_sums(features[:-1], members[:-1], 3)
    assert np.linalg.norm(whole - less) <= math.sqrt(2)
    # Exact sums: on the grid, whatever they are made of.
    assert np.array_equal(whole * GRID, np.rint(whole * GRID))


def test_alike_records_have_alike_features() -> None:
    cells = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [3, 2, 4, 1, 5]], dtype=np.int32)
    features = kernel_features(cells, SIZES)
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(3), abs=1e-4)
    near, far = (np.linalg.norm(features[0] - features[other]) for other in (1, 2))
    assert near < 0.8 * far


def test_groups_are_told_apart_and_counted() -> None:
    cells = two_groups(6_000)
    found = find_clusters(
        cells, SIZES, clusters=2, rounds=4, noise_multiplier=2.0, noise=SeededNoise(2)
    )
    in_first = found.members == found.members[0]
    share = np.mean(in_first == (np.arange(6_000) % 2 == 0))
    assert share > 0.95
    assert found.units.sum() == pytest.approx(6_000, abs=40)


def test_counts_are_noisy_and_never_negative() -> None:
    cells = two_groups(600)
    found, exact = (
        find_clusters(cells, SIZES, clusters=8, rounds=1, noise_multiplier=30.0, noise=noise)
        for noise in (SeededNoise(3), NoNoise())
    )
    assert exact.units.sum() == 600
    assert (found.units != exact.units).all()
    assert (found.units >= 0).all()


def test_no_records_make_no_clusters_and_no_error() -> None:
    nobody = np.zeros((0, len(SIZES)), np.int32)
    found = find_clusters(
        nobody, SIZES, clusters=3, rounds=2, noise_multiplier=1.0, noise=SeededNoise(4)
    )
    assert len(found.members) == 0
    assert "members" not in repr(found)


def test_nobody_else_moves_a_record_that_is_between_two_centres() -> None:
    # Distances are exact, so they are the same in whatever order a library adds.
    rng = np.random.default_rng(5)
    sizes = (4, 3)
    records = np.stack([rng.integers(size, size=40) for size in sizes], axis=1).astype(np.int32)
    features = kernel_features(records, sizes)
    centres = on_grid(rng.normal(scale=0.7, size=(3, features.shape[1])))
    assert np.abs(centres).max() == 1
    found = features @ centres.T
    for row, record in enumerate(features):
        for column, centre in enumerate(centres):
            exact = sum(Fraction(a) * Fraction(b) for a, b in zip(record, centre, strict=True))
            assert Fraction(found[row, column]) == exact
