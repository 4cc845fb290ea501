import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS, naive_gradients
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_rate

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance
from sordino_client.training.augmentation import (
    OUTSIDE,
    Images,
    Views,
    check_image,
    draw_views,
    make_views,
)
from sordino_client.training.clipping import Units, clipped_sum, network_for
from sordino_client.training.losses import CrossEntropy
from sordino_client.training.noise import SecureNoise
from sordino_client.training.units import Draw
from sordino_protocols.local_training import Augmentation

IMAGE = (2, 5, 4)
SIZE = 40
NOBODY = np.zeros(0, np.int64)
SHIFTED = Augmentation(image=IMAGE, views=3, shift=2, flip=True)


def images(count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).uniform(-1, 1, (count, SIZE)).astype(np.float32)


def naive_view(image: Images, *, down: int, right: int, mirrored: bool) -> Images:
    """Pixel by pixel."""
    channels, height, width = IMAGE
    seen = image.reshape(IMAGE)
    moved = np.full(IMAGE, OUTSIDE, dtype=np.float32)
    for channel, row, column in np.ndindex(channels, height, width):
        source = width - 1 - column if mirrored else column
        if 0 <= row + down < height and 0 <= column + right < width:
            moved[channel, row + down, column + right] = seen[channel, row, source]
    return moved.reshape(-1)


@settings(max_examples=60, deadline=None)
@given(
    records=st.integers(0, 4),
    views=st.integers(1, 4),
    shift=st.integers(0, 7),
    flip=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_views_are_the_images_moved_and_mirrored(
    records: int, views: int, shift: int, *, flip: bool, seed: int
) -> None:
    augmentation = Augmentation(image=IMAGE, views=views, shift=shift, flip=flip)
    drawn = draw_views(records, augmentation, noise=SeededNoise(seed))
    assert max(np.abs(drawn.down).max(initial=0), np.abs(drawn.right).max(initial=0)) <= shift
    assert flip or not drawn.mirrored.any()
    features = images(records, seed)
    made = make_views(features, drawn).reshape(records, views, SIZE)
    for record, view in np.ndindex(records, views):
        at = record, view
        expected = naive_view(
            features[record],
            down=int(drawn.down[at]),
            right=int(drawn.right[at]),
            mirrored=bool(drawn.mirrored[at]),
        )
        assert np.array_equal(made[at], expected)


def test_images_keep_the_shape_that_they_have() -> None:
    drawn = draw_views(2, SHIFTED, noise=SeededNoise(0))
    flat = make_views(images(2), drawn)
    assert np.array_equal(make_views(images(2).reshape(2, *IMAGE), drawn).reshape(6, -1), flat)


def test_every_move_is_as_likely_and_half_are_mirrored() -> None:
    drawn = draw_views(1000, SHIFTED, noise=SecureNoise())
    for moves in (drawn.down, drawn.right):
        for move in range(-2, 3):
            assert_rate(int((moves == move).sum()), 3000, 0.2)
    assert_rate(int(drawn.mirrored.sum()), 3000, 0.5)
    assert_rate(int((drawn.down == drawn.right).sum()), 3000, 0.2)


def test_refuses_what_is_no_image() -> None:
    check_image(images(0), SHIFTED)
    with pytest.raises(ValueError, match="39 features are no images of 40"):
        check_image(images(3)[:, :39], SHIFTED)
    with pytest.raises(ValueError, match="no images"):
        check_image(images(3).astype(np.int64), SHIFTED)


# --- in a sum ---------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 3, 4])
@pytest.mark.parametrize("kind", ["conv2d", "group norm", "grouped conv2d, by Opacus"])
@pytest.mark.parametrize("is_entity", [False, True])
def test_gradients_of_views_are_averaged_before_they_are_clipped(
    kind: str, views: int, *, is_entity: bool
) -> None:
    augmentation = Augmentation(image=IMAGE, views=views, shift=1, flip=True)
    spec, labels = KINDS[kind].spec, KINDS[kind].labels(6)
    network = network_for(spec, SIZE, "cross_entropy", performance=Performance(precision="double"))
    weights = 0.5 * np.random.default_rng(0).standard_normal(network.dimension)
    drawn = draw_views(6, augmentation, noise=SeededNoise(1))
    rows = naive_gradients(
        spec, make_views(images(6), drawn), np.repeat(labels, views), weights, CrossEntropy()
    )
    records = rows.reshape(6, views, -1).mean(axis=1)
    if is_entity:
        starts = np.array([0, 2, 4, 6])
        units = Units(images(6), labels, NOBODY, Entities(np.arange(6), starts))
        exact, draw = records.reshape(3, 2, -1).sum(axis=1), np.arange(6).reshape(3, 2)
        sampled = Draw(draw, drawn)
    else:
        units, exact, sampled = Units(images(6), labels, NOBODY), records, Draw(None, drawn)
    everyone = np.arange(len(exact))
    free = clipped_sum(units, everyone, weights, network, bound=1e6, drawn=sampled)
    assert np.allclose(free, exact.sum(axis=0), rtol=0, atol=1e-6 * np.abs(exact).sum())
    for unit, gradient in enumerate(exact):
        bound = float(np.linalg.norm(gradient)) / 2
        alone = clipped_sum(
            units,
            everyone[unit : unit + 1],
            weights,
            network,
            bound=bound,
            drawn=sampled.part(unit, unit + 1),
        )
        assert np.linalg.norm(alone) <= bound * (1 + 1e-12)
        assert np.allclose(alone, gradient / 2, rtol=0, atol=0.03 * bound)


def test_views_that_do_nothing_change_nothing() -> None:
    spec, labels = KINDS["conv2d"].spec, KINDS["conv2d"].labels(5)
    network = network_for(spec, SIZE, "cross_entropy", performance=Performance(precision="double"))
    weights = 0.5 * np.random.default_rng(0).standard_normal(network.dimension)
    units = Units(images(5), labels, NOBODY)
    once = clipped_sum(units, np.arange(5), weights, network, bound=1e6)
    still = draw_views(5, SHIFTED, noise=NoNoise())
    still = Views(IMAGE, still.down, still.right, np.zeros_like(still.mirrored))
    thrice = clipped_sum(units, np.arange(5), weights, network, bound=1e6, drawn=Draw(None, still))
    assert np.allclose(once, thrice, rtol=1e-6, atol=1e-6 * np.abs(once).max())
