"""How good a synthetic table is: the measures that bars are set on, of one table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.synthesis_data import BenchmarkTable
from sordino.fidelity import distances, query_shares
from sordino.synthetic_utility import Examples, ModelKind, model_scores, subgroups
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.data.encode import encode
from sordino_protocols.synthesis.domain import Domain, domain_of
from sordino_protocols.synthesis.features import features_of

Cells = npt.NDArray[np.int32]

MODELS: tuple[ModelKind, ...] = ("boosted trees", "linear")
SMALLEST_GROUP = 120
_QUERY_SEED = 7


@dataclass(frozen=True, slots=True)
class Encoded:
    """A table of the benchmark, encoded once.

    Attributes:
        table: the records.
        domain: of its cells.
        real: cells of all training records.
        train: their features and labels.
        test: the same of the test records.
    """

    table: BenchmarkTable
    domain: Domain
    real: Cells
    train: Examples
    test: Examples

    def sites(self, count: int, *, seed: int) -> list[Cells]:
        """The cells of each of so many unlike sites, the largest first."""
        parts = self.table.sites(count, seed=seed)
        return [encode_cells(part, self.table.schema) for part in parts]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Distances between real and synthetic cells.

    Attributes:
        fine_pairs: mean total variation of pairs of columns at fine resolution.
        coarse_pairs: the same at coarse resolution.
        fine_triples: the same of three columns, fine.
        query_mean: mean error of a thousand counting queries, as a share of all records.
        query_high: the error that one query in twenty exceeds.
    """

    fine_pairs: float
    coarse_pairs: float
    fine_triples: float
    query_mean: float
    query_high: float


@dataclass(frozen=True, slots=True)
class Groups:
    """Sizes of groups by protected columns and label, synthetic over real, from 120 records on."""

    smallest: float
    largest: float


def encoded(table: BenchmarkTable) -> Encoded:
    """Encode a table as a site does."""
    schema, examples = table.schema, list[Examples]()
    for frame in (table.train, table.test):
        found = encode(frame, schema)
        examples.append(Examples(found.features.astype(np.float32), found.labels))
    return Encoded(table, domain_of(schema), encode_cells(table.train, schema), *examples)


def likeness(real: Cells, synthetic: Cells, data: Encoded) -> Likeness:
    """Compare cells with those that they stand for."""
    shape, rng = data.domain.shape, np.random.default_rng(_QUERY_SEED)
    shares = query_shares(real, synthetic, shape, rng=rng)
    errors = np.abs(shares[:, 0] - shares[:, 1])
    return Likeness(
        fine_pairs=distances(real, synthetic, shape, ways=2, resolution="fine").mean,
        coarse_pairs=distances(real, synthetic, shape, ways=2, resolution="coarse").mean,
        fine_triples=distances(real, synthetic, shape, ways=3, resolution="fine").mean,
        query_mean=float(errors.mean()),
        query_high=float(np.quantile(errors, 0.95)),
    )


def usefulness(synthetic: Cells, data: Encoded, *, seed: int) -> dict[ModelKind, float]:
    """AUC on real test records of models that were trained on the synthetic ones (TSTR)."""
    schema = data.table.schema
    train = Examples(*features_of(synthetic, schema, rng=np.random.default_rng(seed)))
    return model_scores(train, data.test, task=schema.task, seed=seed, kinds=MODELS)


def groups(synthetic: Cells, data: Encoded) -> Groups:
    """How much larger or smaller groups are than they should be."""
    roles = data.table.schema.roles
    names = [column.name for column in data.domain.columns]
    columns = [names.index(each) for each in (*roles.protected, roles.label)]
    ratios = [
        group.ratio
        for group in subgroups(data.real, synthetic, data.domain.shape, columns)
        if group.records >= SMALLEST_GROUP
    ]
    return Groups(min(ratios), max(ratios))


def mean(values: Sequence[float]) -> float:
    """Over repeats."""
    return math.fsum(values) / len(values)
