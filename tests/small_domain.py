"""A small schema with every kind of column that can be synthesised, and tables of its cells."""

import numpy as np
from numpy.typing import NDArray

from sordino_client.synthesis.measure import exact_counts
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.marginals import marginals_of
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.tables import SiteTable

SCHEMA = """
[dataset]
name = "claims"
version = 1
order_of_magnitude = 4000
holdout_fraction = 0.2
[columns.age]
type = "integer"
min = 18
max = 97
coarse = [30, 45, 60, 75]
[columns.income]
type = "number"
min = 0
max = 100000
bins = 20
scale = "log1p"
nullable = true
[columns.notes]
type = "text"
[columns.sex]
type = "category"
values = ["female", "male"]
[columns.towers]
type = "set"
values = ["north", "east", "south", "west", "port"]
max_items = 3
[columns.work]
type = "category"
values = ["private", "gov", "self"]
other = "other"
nullable = true
[columns.churn]
type = "category"
values = ["no", "yes"]
[roles]
label = "churn"
positive_values = ["yes"]
"""

Cells = NDArray[np.int32]
# Positions: age, churn, income, sex, towers (5), work.
AGE, CHURN, INCOME, SEX, TOWERS, WORK = 0, 1, 2, 3, slice(4, 9), 9


def small_schema(more: str = "") -> Schema:
    """The schema, with more TOML behind it."""
    return parse_toml(SCHEMA + more, Schema, source="claims.toml")


def small_cells(rows: int, *, rng: np.random.Generator) -> Cells:
    """Records of two kinds of people: each column says something about the others."""
    kind = rng.random(rows) < 0.4
    cells = np.zeros((rows, 10), dtype=np.int32)
    cells[:, AGE] = np.clip(rng.normal(np.where(kind, 15, 50), 8), 0, 79)
    cells[:, CHURN] = rng.random(rows) < np.where(kind, 0.8, 0.1)
    cells[:, INCOME] = rng.integers(np.where(kind, 10, 15), 21)
    cells[:, SEX] = rng.random(rows) < np.where(kind, 0.3, 0.6)
    first = np.where(kind, 0, 2)
    cells[np.arange(rows), 4 + first] = rng.random(rows) < 0.9
    cells[np.arange(rows), 5 + first] = rng.random(rows) < 0.7
    cells[:, WORK] = rng.integers(np.where(kind, 0, 2), np.where(kind, 3, 5))
    return cells


def small_table(
    cells: Cells,
    *,
    noise_multiplier: float,
    rng: np.random.Generator,
    site: str = "bonn",
    shape: DomainShape | None = None,
) -> SiteTable:
    """The cells' marginals with rounded Gaussian noise, as a site would release them."""
    shape = domain_of(small_schema()).shape if shape is None else shape
    marginals = marginals_of(
        shape, noise_multiplier=noise_multiplier, fine_share=0.15, label_weight=4.0
    )
    stds = tuple(each.noise_std for each in marginals)
    noise = rng.normal(size=sum(each.cells for each in marginals))
    noise *= np.repeat(stds, [each.cells for each in marginals])
    counts = np.rint(exact_counts(cells, marginals, shape=shape) + noise)
    return SiteTable(site, shape, marginals, counts, stds)
