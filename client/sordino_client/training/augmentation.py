"""Random views of images: each record goes through the network several times, a little changed.

The gradients of a record's views are averaged before they are clipped (De et al. 2022, section
3.2), so a unit brings one gradient of the clipping norm at most, whatever its views are. What moves
in from outside an image is -1, the public lower bound of every encoded feature.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise
from sordino_client.training.sampling import Indices, uniform_integers
from sordino_protocols.local_training import Augmentation

OUTSIDE = -1.0

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Views:
    """How the views of some records differ from the records.

    Attributes:
        image: channels, height, width.
        down: [records, views], pixels by which the image moves down.
        right: [records, views], pixels by which it moves right.
        mirrored: [records, views], whether left and right change places, before it moves.
    """

    image: tuple[int, int, int]
    down: Indices
    right: Indices
    mirrored: npt.NDArray[np.bool_]

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Views(...)"

    @property
    def count(self) -> int:
        """Views of each record."""
        return int(self.down.shape[1])

    def part(self, start: int, stop: int) -> "Views":
        """Those of some of the records."""
        part = slice(start, stop)
        return Views(self.image, self.down[part], self.right[part], self.mirrored[part])


def draw_views(records: int, augmentation: Augmentation, *, noise: Noise) -> Views:
    """Draw each record's views: every move as likely, each view on its own."""
    count, furthest = records * augmentation.views, augmentation.shift
    shape = (records, augmentation.views)
    down, right = (
        uniform_integers(count, below=2 * furthest + 1, noise=noise).reshape(shape) - furthest
        for _ in range(2)
    )
    share = 0.5 if augmentation.flip else 0.0
    mirrored = noise.bernoulli(count, probability=share).reshape(shape)
    return Views(augmentation.image, down, right, mirrored)


def make_views(features: Images, views: Views) -> Images:
    """Every view of every record, those of one record one after the other.

    Args:
        features: [records, ...], each an image, channel by channel and row by row.
        views: of these records.

    Returns:
        [records * views, ...]; `OUTSIDE` where the image moved away.
    """
    channels, height, width = views.image
    down, right = views.down.reshape(-1), views.right.reshape(-1)
    rows = np.arange(height) - down[:, None]
    columns = np.arange(width) - right[:, None]
    columns = np.where(views.mirrored.reshape(-1)[:, None], width - 1 - columns, columns)
    is_inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    places = rows.clip(0, height - 1)[:, :, None] * width
    places = places + columns.clip(0, width - 1)[:, None, :]
    planes = features.reshape(len(features), channels, height * width)
    images = np.repeat(planes, views.count, axis=0)
    one_plane = len(places), 1, height * width
    moved = np.take_along_axis(images, places.reshape(one_plane), axis=2)
    moved = np.where(is_inside.reshape(one_plane), moved, np.float32(OUTSIDE))
    return moved.reshape(len(places), *features.shape[1:])


def check_image(features: npt.NDArray[np.generic], augmentation: Augmentation) -> None:
    """Refuse records that are no such images.

    Raises:
        ValueError: another number of features, or indices of a table.
    """
    found, expected = math.prod(features.shape[1:]), math.prod(augmentation.image)
    if found != expected or features.dtype.kind != "f":
        raise ValueError(f"{found} features are no images of {expected} numbers")


def _within(positions: Indices, size: int) -> npt.NDArray[np.bool_]:
    return (positions >= 0) & (positions < size)
