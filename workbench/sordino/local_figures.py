"""How near synthetic records are to the real ones, and what they are good for, exactly.

All of it is computed on real records and belongs to those who hold them: the figures have no noise,
so they are no release.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sordino.cell_labels import cell_labels
from sordino.fidelity import (
    SetDistances,
    associations,
    distances,
    query_shares,
    set_distances,
)
from sordino.real_records import RealRecords
from sordino.synthetic_utility import (
    Examples,
    GroupAccuracy,
    ModelKind,
    Subgroup,
    group_accuracies,
    groups_of,
    model_scores,
    rank_agreement,
    subgroups,
)
from sordino_audit.synthesis.discriminator import discriminator_auc
from sordino_audit.synthesis.divergence import Divergence, divergences, largest_advantage
from sordino_audit.synthesis.nearest import NearestRecords, nearest_records
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import Cells, Domain, SetDomain, domain_of
from sordino_protocols.synthesis.features import features_of

Floats = npt.NDArray[np.float64]
Resolution = Literal["fine", "coarse"]

_CONFIDENCE = 0.95
_MOST_COMPARED = 4_000
_MOST_TRAINED_ON = 30_000
_MOST_WAYS = 3


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How near the tables are.

    Attributes:
        names: of the columns.
        variations: mean total variation by the number of columns, at both resolutions.
        pairs: of two columns at fine resolution, [names, names]; NaN where there is none.
        queries: share of records for which random counting queries hold, real and synthetic.
        real_associations: Cramér's V of two columns, [names, names].
        synthetic_associations: the same.
        sets: of each column of sets.
    """

    names: tuple[str, ...]
    variations: Mapping[tuple[int, Resolution], float]
    pairs: Floats
    queries: Floats
    real_associations: Floats
    synthetic_associations: Floats
    sets: Mapping[str, SetDistances]

    @property
    def query_errors(self) -> Floats:
        """How far off the queries are, in shares of the records."""
        return np.abs(self.queries[:, 0] - self.queries[:, 1])


@dataclass(frozen=True, slots=True)
class Group:
    """A group of people by one protected column.

    Attributes:
        column: which.
        label: the group's value.
        size: how many there are, and the ratio of its share among synthetic records.
        accuracy: of models; None where the label is a number.
    """

    column: str
    label: str
    size: Subgroup
    accuracy: GroupAccuracy | None


@dataclass(frozen=True, slots=True)
class Utility:
    """What models learn.

    Attributes:
        metric: what scores are.
        real: trained on real records, tested on others.
        synthetic: trained on synthetic records, tested on the same.
        ranking: share of pairs of models that both put in the same order.
        groups: of the protected columns.
    """

    metric: str
    real: Mapping[ModelKind, float]
    synthetic: Mapping[ModelKind, float]
    ranking: float
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Attacks:
    """What was tried on the rows.

    Attributes:
        divergences: of members and strangers, by attribute.
        discriminator: AUC of a network that tells rows from strangers.
        nearest: a diagnostic that measures no privacy.
    """

    divergences: tuple[Divergence, ...]
    discriminator: float
    nearest: NearestRecords


@dataclass(frozen=True, slots=True)
class LocalFigures:
    """All that a local report shows; `attacks` needs records that no synthesis saw."""

    schema: Schema
    rows: int
    fidelity: Fidelity
    utility: Utility
    attacks: Attacks | None


def compare(
    real: RealRecords,
    synthetic: Cells,
    *,
    guarantee: Guarantee | None,
    rng: np.random.Generator,
) -> LocalFigures:
    """Compare synthetic records with the real ones.

    Args:
        real: of one site.
        synthetic: [rows, positions], of the same schema.
        guarantee: of the release; None if it is not known.
        rng: draws queries, values within cells, and halves of records.
    """
    domain = domain_of(real.schema)
    return LocalFigures(
        schema=real.schema,
        rows=len(synthetic),
        fidelity=_fidelity(real, synthetic, domain, rng=rng),
        utility=_utility(real, synthetic, domain, rng=rng),
        attacks=_attacks(real, synthetic, domain, guarantee, rng=rng),
    )


def _fidelity(
    real: RealRecords, synthetic: Cells, domain: Domain, *, rng: np.random.Generator
) -> Fidelity:
    ours, shape = real.members.cells, domain.shape
    singles = sum(not isinstance(column, SetDomain) for column in domain.columns)
    resolutions: tuple[Resolution, ...] = ("fine", "coarse")
    by_way = {
        (ways, resolution): distances(ours, synthetic, shape, ways=ways, resolution=resolution)
        for ways in range(1, min(_MOST_WAYS, singles) + 1)
        for resolution in resolutions
    }
    names = tuple(column.name for column in domain.columns)
    pairs = by_way.get((2, "fine"))
    return Fidelity(
        names=names,
        variations={way: each.mean for way, each in by_way.items()},
        pairs=np.full((len(names),) * 2, np.nan) if pairs is None else pairs.matrix(len(names)),
        queries=query_shares(ours, synthetic, shape, rng=rng),
        real_associations=associations(ours, shape),
        synthetic_associations=associations(synthetic, shape),
        sets={names[at]: each for at, each in set_distances(ours, synthetic, shape).items()},
    )


def _utility(
    real: RealRecords, synthetic: Cells, domain: Domain, *, rng: np.random.Generator
) -> Utility:
    task, test = real.schema.task, real.strangers.examples
    members = real.members.examples
    ours = Examples(members.features[:_MOST_TRAINED_ON], members.labels[:_MOST_TRAINED_ON])
    theirs = Examples(*features_of(synthetic[:_MOST_TRAINED_ON], real.schema, rng=rng))
    seed = int(rng.integers(2**31))
    on_real, on_synthetic = (
        model_scores(train, test, task=task, seed=seed) for train in (ours, theirs)
    )
    return Utility(
        metric={"binary": "AUC", "classes": "accuracy", "number": "explained variance"}[task],
        real=on_real,
        synthetic=on_synthetic,
        ranking=rank_agreement(on_real, on_synthetic),
        groups=tuple(_groups(real, synthetic, domain, (ours, theirs), seed)),
    )


def _groups(
    real: RealRecords,
    synthetic: Cells,
    domain: Domain,
    trained_on: tuple[Examples, Examples],
    seed: int,
) -> Iterator[Group]:
    names = [column.name for column in domain.columns]
    for name in real.schema.roles.protected:
        at, tested = names.index(name), real.strangers
        codes = groups_of(tested.cells, domain.shape, (at,))
        accuracies: Mapping[int, GroupAccuracy] = {}
        if real.schema.task != "number":
            accuracies = group_accuracies(*trained_on, tested.examples, codes, seed=seed)
        labels = cell_labels(domain.columns[at])
        for each in subgroups(real.members.cells, synthetic, domain.shape, (at,)):
            (cell,) = each.cells
            yield Group(name, labels[cell], each, accuracies.get(cell))


def _attacks(
    real: RealRecords,
    synthetic: Cells,
    domain: Domain,
    guarantee: Guarantee | None,
    *,
    rng: np.random.Generator,
) -> Attacks | None:
    if not real.is_split_known:
        return None
    members, strangers, rows = (
        _some(cells, rng) for cells in (real.members.cells, real.strangers.cells, synthetic)
    )
    most = 1.0 if guarantee is None else largest_advantage(guarantee.epsilon, guarantee.delta)
    half = len(strangers) // 2
    return Attacks(
        divergences=divergences(
            synthetic,
            members,
            strangers,
            _attributes(domain),
            most=most,
            confidence=_CONFIDENCE,
            rng=rng,
        ),
        discriminator=discriminator_auc(
            rows,
            members,
            strangers[:half],
            strangers[half:],
            shape=domain.shape,
            seed=int(rng.integers(2**31)),
        ),
        nearest=nearest_records(rows, members, strangers),
    )


def _attributes(domain: Domain) -> dict[str, Sequence[int]]:
    """Positions by what is asked: each column alone, and all together."""
    asked: dict[str, Sequence[int]] = {"all columns": range(domain.position_count)}
    for start, column in domain.starts():
        width = column.shape.items if isinstance(column, SetDomain) else 1
        asked[column.name] = range(start, start + width)
    return asked


def _some(cells: Cells, rng: np.random.Generator) -> Cells:
    chosen: Cells = cells[rng.permutation(len(cells))[:_MOST_COMPARED]]
    return chosen
