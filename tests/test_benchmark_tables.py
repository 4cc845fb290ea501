"""The benchmarks' declarations: they read without the data, and make the plan that bars are for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.synthesis_data import BenchmarkTable
from sordino_protocols.files import read_toml
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.specs import MixtureSpec

TABLES = Path(__file__).parents[1] / "benchmarks" / "tables"


@pytest.mark.parametrize(
    ("name", "columns", "marginals"), [("adult", 14, 105), ("credit", 24, 300)]
)
def test_a_declared_table_has_one_marginal_a_column_and_one_a_pair(
    name: str, columns: int, marginals: int
) -> None:
    schema = read_toml(TABLES / f"{name}.toml", Schema)
    shape = domain_of(schema).shape
    assert len(shape.columns) == columns
    plan = MixtureSpec().marginals(shape, 4.0)
    assert len(plan) == marginals
    assert sum(each.cells for each in plan) < 100_000


def test_unlike_sites_share_out_every_record_once_and_are_unlike() -> None:
    schema = read_toml(TABLES / "credit.toml", Schema)
    frame = pd.DataFrame(
        {name: np.zeros(2_000, dtype=np.int64) for name in schema.columns}
        | {"EDUCATION": np.arange(2_000) % 7, "AGE": np.arange(2_000)}
    )
    table = BenchmarkTable(schema, frame, frame, groups="EDUCATION")
    sites = table.sites(4, seed=0)
    assert sorted(age for site in sites for age in site["AGE"]) == list(range(2_000))
    assert [len(site) for site in sites] == sorted(map(len, sites), reverse=True)
    mixes = np.array(
        [[(site["EDUCATION"] == group).mean() for group in range(7)] for site in sites]
    )
    assert float(np.ptp(mixes, axis=0).max()) > 0.05
    again = table.sites(4, seed=0)
    assert all(one.equals(other) for one, other in zip(sites, again, strict=True))
