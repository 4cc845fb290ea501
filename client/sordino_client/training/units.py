"""What one site trains on: its privacy units, and what of them goes through the network.

A unit is a record, or an entity with all its records; canaries come behind. What must stay true:
what a unit brings depends on that unit and on public data alone.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sordino_client.data.storage import FeatureArray
from sordino_client.entities import Entities
from sordino_client.training.augmentation import Views, check_image, draw_views, make_views
from sordino_client.training.noise import Noise
from sordino_client.training.sampling import ABSENT, Indices, draw_rows
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Units:
    """The privacy units of one site: records or entities first, then canaries. All secret.

    A canary is a unit whose loss is linear in the weights of its own lane and reads nothing else.
    Lanes are coordinates behind the model's own that no logit reads, so a canary has a huge
    gradient on one lane and exactly none on the model. A lane has one coordinate for each layer
    of the model that has parameters, so a canary's gradient has as many layers as a record's.

    Attributes:
        features: [records, ...], encoded, perhaps mapped from a file; whole numbers where the
            model looks them up in a table.
        labels: [records], a class or a number, or [records, outputs], numbers.
        canary_lanes: [canaries], the lane of each canary that is inserted.
        entities: whose the records are, where a unit is an entity; None where it is a record.
        scaling: what is done to the features before they enter the network; public.
    """

    features: FeatureArray
    labels: npt.NDArray[np.float32]
    canary_lanes: npt.NDArray[np.int64]
    entities: Entities | None = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if self.features.ndim < 2 or self.labels.shape[:1] != self.features.shape[:1]:  # noqa: PLR2004
            raise ValueError("expected features [records, ...] and labels [records]")
        if self.canary_lanes.ndim != 1:
            raise ValueError("expected canary_lanes [canaries]")
        if self.entities is not None and len(self.entities.order) != len(self.labels):
            raise ValueError("expected every record to be an entity's")
        if self.scaling is not None and self.features.dtype.kind != "f":
            raise ValueError("expected features to scale that are no indices of a table")

    @property
    def with_records(self) -> int:
        """Units that are no canaries: they come first; a secret."""
        return len(self.labels if self.entities is None else self.entities)

    def __len__(self) -> int:
        """Units in all; a secret."""
        return self.with_records + len(self.canary_lanes)

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Units(...)"


@dataclass(frozen=True, slots=True)
class Draw:
    """What is random about the units of a batch, beside that they are in it. A secret.

    Attributes:
        rows: [units, rows a unit], records of each entity, or `ABSENT`; None where a unit is a
            record.
        views: of each of these rows; None for none.
    """

    rows: Indices | None = None
    views: Views | None = None

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Draw(...)"

    @property
    def rows_per_unit(self) -> int:
        """Rows in which a unit goes through the network; a public constant."""
        rows = 1 if self.rows is None else self.rows.shape[1]
        return rows * (1 if self.views is None else self.views.count)

    def part(self, start: int, stop: int) -> "Draw":
        """That of some of the units."""
        per_unit = 1 if self.rows is None else self.rows.shape[1]
        return Draw(
            None if self.rows is None else self.rows[start:stop],
            None if self.views is None else self.views.part(start * per_unit, stop * per_unit),
        )


ALL_AS_THEY_ARE = Draw()


@dataclass(frozen=True, slots=True)
class Rows:
    """What goes through the network: [units * rows_per_unit, ...], a unit's rows together.

    Attributes:
        features: zero for a row that is absent.
        labels: of each row.
        shares: what each row's loss counts: 1 over the views, 0 for absent; None for ones.
    """

    features: Tensor
    labels: Tensor
    shares: Tensor | None

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Rows(...)"


def draw(units: Units, chosen: Indices, plan: TrainingPlan, *, noise: Noise) -> Draw:
    """Draw anew which rows and views of the chosen units a step looks at.

    Args:
        units: the site's.
        chosen: units with records, in the order of the batch.
        plan: how many rows and which views.
        noise: where the draws come from.

    Raises:
        ValueError: the plan's unit is not that of `units`, or its images are not the features.
    """
    if (plan.unit == "entity") != (units.entities is not None):
        raise ValueError(f"the plan's unit is {plan.unit!r}, that of the data is the other")
    rows = None
    if units.entities is not None:
        rows = draw_rows(units.entities, chosen, at_most=plan.records_per_unit, noise=noise)
    if plan.augmentation is None:
        return Draw(rows)
    check_image(units.features, plan.augmentation)
    views = draw_views(len(chosen) if rows is None else rows.size, plan.augmentation, noise=noise)
    return Draw(rows, views)


def rows_per_unit(plan: TrainingPlan) -> int:
    """Rows in which a unit goes through the network, those that it lacks included."""
    return plan.records_per_unit * (plan.augmentation.views if plan.augmentation else 1)


def gather(
    units: Units, chosen: Indices, drawn: Draw, *, rows_per_unit: int, row_count: int
) -> Rows:
    """The rows of the chosen units, scaled, each unit's made up to `rows_per_unit`.

    Args:
        units: the site's.
        chosen: units with records, at least one.
        drawn: for these units.
        rows_per_unit: at least `drawn.rows_per_unit`.
        row_count: of the result, at least that of the units; what is behind theirs is padding.
    """
    table = chosen if drawn.rows is None else drawn.rows.reshape(-1)
    if rows_per_unit == 1 and drawn.views is None and drawn.rows is None:
        padded = np.full(row_count, table[0])
        padded[: len(table)] = table
        return _plain_rows(units, padded)
    is_there = table != ABSENT
    index = np.where(is_there, table, 0)
    # Copies in memory, of a mapped file too.
    features, labels = units.features[index], units.labels[index]
    count = 1 if drawn.views is None else drawn.views.count
    if drawn.views is not None:
        features = make_views(features.astype(np.float32, copy=False), drawn.views)
        labels, is_there = np.repeat(labels, count, axis=0), np.repeat(is_there, count)
    features = scaled(features, units.scaling)
    features[~is_there], labels[~is_there] = 0, 0
    made_up = partial(
        _made_up, brought=drawn.rows_per_unit, wanted=rows_per_unit, row_count=row_count
    )
    shares = torch.from_numpy(is_there / count)
    return Rows(
        made_up(torch.from_numpy(features)), made_up(torch.from_numpy(labels)), made_up(shares)
    )


def _plain_rows(units: Units, index: Indices) -> Rows:
    features = _taken(units.features, index)
    if units.scaling is not None:
        features = torch.from_numpy(scaled(features.numpy(), units.scaling)).clone()
    return Rows(features, _taken(units.labels, index), None)


def _taken(array: FeatureArray, index: Indices) -> Tensor:
    """These rows in memory of torch's own, aligned alike in every pass: see `arithmetic`."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    rows = torch.empty((len(index), *array.shape[1:]), dtype=dtype)
    if array.flags.c_contiguous and array.flags.aligned:
        np.take(array, index, axis=0, out=rows.numpy(), mode="clip")
    else:
        # To take from it, numpy would copy the whole array first.
        rows.numpy()[...] = array[index]
    return rows


def scaled(features: FeatureArray, scaling: Scaling | None) -> FeatureArray:
    """The features [records, ...] as they enter the network; the array itself without a scaling.

    Raises:
        ValueError: a scaling for another number of features.
    """
    if scaling is None:
        return features
    flat = features.reshape(len(features), math.prod(features.shape[1:]))
    flat = flat.astype(np.float32, copy=False)
    return scaling.apply(flat).reshape(features.shape)


def _made_up(rows: Tensor, *, brought: int, wanted: int, row_count: int) -> Tensor:
    """[units * brought, ...] as [units * wanted, ...] and more, with rows of zeros."""
    made_up = rows.new_zeros(row_count, *rows.shape[1:])
    units = len(rows) // brought
    places = made_up[: units * wanted].view(units, wanted, *rows.shape[1:])
    places[:, :brought] = rows.view(units, brought, *rows.shape[1:])
    return made_up
