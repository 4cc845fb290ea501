"""The tables of the synthesis benchmark: public schemas, real records, and how sites share them.

What a schema declares is what the publisher says of the data (`benchmarks/tables`). Adult is the
table that the default generator was designed on; nobody tried a setting on the credit table before
its figures were reported. Both have 24 columns or fewer, so a made-up wide table says what width
costs in time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sordino_protocols.files import read_toml
from sordino_protocols.schema import Schema

_TABLES = Path(__file__).parent / "tables"
_TEST_SHARE = 0.2
_SPLIT_SEED = 20_240_601
# The lower, the less alike sites are: at 8, the largest group of one is a small one of another.
_CONCENTRATION = 8.0
_WIDE_COLUMNS = 53


@dataclass(frozen=True, slots=True)
class BenchmarkTable:
    """Real records under a public schema, in training and test records.

    Attributes:
        schema: the declaration.
        train: what a site has.
        test: what figures are measured on.
        groups: the column that sites differ in.
    """

    schema: Schema
    train: pd.DataFrame
    test: pd.DataFrame
    groups: str

    @property
    def name(self) -> str:
        """What figures call it."""
        return self.schema.dataset.name

    def sites(self, count: int, *, seed: int) -> list[pd.DataFrame]:
        """The training records, each at one of so many unlike sites; the last has the fewest.

        The k-th largest of n sites has a share of about (n + 1 - k) / (n (n + 1) / 2). Each group's
        records are shared out by a Dirichlet draw around these shares, so no two sites have the
        same mix of groups (Hsu et al. 2019, sec. 3).
        """
        rng = np.random.default_rng([_SPLIT_SEED, count, seed])
        shares = np.arange(count, 0, -1) / (count * (count + 1) / 2)
        site_of = np.zeros(len(self.train), dtype=np.int64)
        groups = np.array([str(cell) for cell in self.train[self.groups]])
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            mix = rng.dirichlet(_CONCENTRATION * shares)
            site_of[rows] = rng.choice(count, size=len(rows), p=mix)
        parts = [self.train[site_of == site] for site in range(count)]
        return sorted(parts, key=len, reverse=True)


def read_adult(folder: Path) -> BenchmarkTable:
    """Adult (UCI): 48,842 records, of which a random fifth to measure on; 14 columns.

    The sampling weight `fnlwgt` is left out; `?` is a missing cell.
    """
    frame = pd.read_csv(folder / "adult.csv.gz", na_values="?", skipinitialspace=True)
    return _table("adult.toml", frame, groups="occupation")


def read_credit(folder: Path) -> BenchmarkTable:
    """Credit default (UCI): 30,000 clients, of which a random fifth to measure on; 24 columns."""
    frame = pd.read_csv(folder / "uci_credit_default.csv.gz")
    return _table("credit.toml", frame, groups="EDUCATION")


def widened(table: BenchmarkTable, *, seed: int) -> BenchmarkTable:
    """A table of 53 columns for timing: copies of columns with half of their cells shuffled.

    Its figures of time say something, those of accuracy nothing.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in sorted(table.schema.columns) if name != table.schema.roles.label]
    columns, train, test = dict(table.schema.columns), table.train.copy(), table.test.copy()
    for index in range(_WIDE_COLUMNS - len(columns)):
        name = names[index % len(names)]
        copy = f"{name}.{index // len(names) + 1}"
        columns[copy] = table.schema.columns[name]
        for frame in (train, test):
            frame[copy] = _half_shuffled(frame[name], rng)
    schema = table.schema.model_copy(update={"columns": columns})
    return BenchmarkTable(schema, train, test, table.groups)


def _table(schema_file: str, frame: pd.DataFrame, *, groups: str) -> BenchmarkTable:
    schema = read_toml(_TABLES / schema_file, Schema)
    frame = frame[sorted(schema.columns)]
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(frame))
    test_count = round(_TEST_SHARE * len(frame))
    return BenchmarkTable(
        schema, _rows(frame, order[test_count:]), _rows(frame, order[:test_count]), groups
    )


def _rows(frame: pd.DataFrame, rows: npt.NDArray[np.int64]) -> pd.DataFrame:
    return frame.iloc[rows].reset_index(drop=True)


def _half_shuffled(cells: "pd.Series", rng: np.random.Generator) -> "pd.Series":
    order = np.arange(len(cells))
    chosen = np.flatnonzero(rng.random(len(cells)) < 0.5)
    order[chosen] = rng.permutation(chosen)
    return cells.iloc[order].reset_index(drop=True)
