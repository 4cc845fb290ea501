"""The benchmark's data sets, encoded by public bounds and categories alone.

Nothing here is fitted to records: bins, bounds and categories are those of the published
descriptions, so encoding costs no privacy. Each data set comes as training and test records; which
are which is the publisher's choice where there is one.
"""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.utility_scattering import Whitening, image_features

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.float32]

_CATEGORIES: Mapping[str, Sequence[str]] = {
    "workclass": (
        "Federal-gov",
        "Local-gov",
        "Never-worked",
        "Private",
        "Self-emp-inc",
        "Self-emp-not-inc",
        "State-gov",
        "Without-pay",
        "?",
    ),
    "marital-status": (
        "Divorced",
        "Married-AF-spouse",
        "Married-civ-spouse",
        "Married-spouse-absent",
        "Never-married",
        "Separated",
        "Widowed",
    ),
    "occupation": (
        "Adm-clerical",
        "Armed-Forces",
        "Craft-repair",
        "Exec-managerial",
        "Farming-fishing",
        "Handlers-cleaners",
        "Machine-op-inspct",
        "Other-service",
        "Priv-house-serv",
        "Prof-specialty",
        "Protective-serv",
        "Sales",
        "Tech-support",
        "Transport-moving",
        "?",
    ),
    "relationship": (
        "Husband",
        "Not-in-family",
        "Other-relative",
        "Own-child",
        "Unmarried",
        "Wife",
    ),
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
    "sex": ("Female", "Male"),
}
_BINS: Mapping[str, Sequence[float]] = {
    "age": (20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70),
    "education-num": (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
    "hours-per-week": (20, 30, 35, 40, 41, 45, 50, 55, 60),
    "capital-gain": (1, 2500, 3500, 4500, 5500, 7000, 10_000, 20_000),
    "capital-loss": (1, 1500, 1700, 1850, 2000, 2200, 2500),
}
_PAYMENT_STATES = range(-2, 9)
_MONTHS = range(1, 7)
_MONEY_LIMIT = 1e6
_MONEY_UNIT = 1e3


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded records: features [n, d], and labels [n], 0/1 or the number of the class."""

    features: Features
    labels: Labels

    def __len__(self) -> int:
        """How many records."""
        return len(self.labels)

    def of(self, rows: npt.NDArray[np.int64]) -> "Records":
        """Some of the records."""
        return Records(self.features[rows], self.labels[rows])


@dataclass(frozen=True, slots=True)
class Split:
    """Records to learn from, and records to measure on."""

    train: Records
    test: Records


def read_adult(folder: Path) -> Split:
    """Adult (UCI): the publisher's split, 32,561 and 16,281 records; label: income above 50K.

    Categories as indicators, numbers as indicators of fixed bins; the sampling weight `fnlwgt` and
    the country (nine of ten records have one value) are left out.
    """
    with gzip.open(folder / "adult.csv.gz", "rt", encoding="utf-8") as file:
        table = pd.read_csv(file, keep_default_na=False)
    columns = [_indicators(table[name], values) for name, values in _CATEGORIES.items()]
    columns += [_binned(table[name], edges) for name, edges in _BINS.items()]
    records = Records(_of_unit_length(columns), _flags(table["income"] == ">50K"))
    is_test = (table["split"] == "test").to_numpy(dtype=bool)
    return Split(records.of(np.flatnonzero(~is_test)), records.of(np.flatnonzero(is_test)))


def read_credit(folder: Path, *, seed: int) -> Split:
    """Credit default (UCI, 30,000 clients): a random fifth to measure on, for nobody published one.

    Codes as indicators; amounts of money on a logarithmic scale that ends at a million.
    """
    with gzip.open(folder / "uci_credit_default.csv.gz", "rt", encoding="utf-8") as file:
        table = pd.read_csv(file)
    columns = [
        _indicators(table["SEX"], (1, 2)),
        _indicators(table["EDUCATION"], range(7)),
        _indicators(table["MARRIAGE"], range(4)),
        _binned(table["AGE"], (25, 30, 35, 40, 45, 50, 60)),
    ]
    columns += [_indicators(table[f"PAY_{month}"], _PAYMENT_STATES) for month in (0, *range(2, 7))]
    amounts = ["LIMIT_BAL"]
    amounts += [f"{kind}_AMT{month}" for kind in ("BILL", "PAY") for month in _MONTHS]
    columns.append(_logarithmic(table[amounts].to_numpy(dtype=np.float64)))
    records = Records(_of_unit_length(columns), _flags(table["default.payment.next.month"] == 1))
    order = np.random.default_rng(seed).permutation(len(records))
    fifth = len(records) // 5
    return Split(records.of(order[fifth:]), records.of(order[:fifth]))


def read_digits(*, seed: int) -> Split | None:
    """scikit-learn's 8 x 8 digits, a random fifth to measure on; None without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  # an optional dependency
    except ImportError:
        return None
    loaded = load_digits()
    # 16 is the largest value of a pixel.
    features = np.asarray(loaded.data / 8 - 1, dtype=np.float32)
    records = Records(features, np.asarray(loaded.target, dtype=np.float32))
    order = np.random.default_rng(seed).permutation(len(records))
    fifth = len(records) // 5
    return Split(records.of(order[fifth:]), records.of(order[:fifth]))


def read_mnist(folder: Path) -> Split:
    """MNIST: the publisher's split, pixels [n, 784] in [0, 1]."""
    with np.load(folder / "mnist.npz") as arrays:
        train, test = (
            Records(
                arrays[f"x_{part}"].reshape(-1, 28 * 28).astype(np.float32) / 255,
                arrays[f"y_{part}"].astype(np.float32),
            )
            for part in ("train", "test")
        )
    return Split(train, test)


def with_scattering(split: Split, whitening: Whitening) -> Split:
    """The same records, their images as hand-crafted features."""
    train, test = (
        Records(image_features(part.features.reshape(-1, 28, 28), whitening), part.labels)
        for part in (split.train, split.test)
    )
    return Split(train, test)


def _indicators(column: "pd.Series[str] | pd.Series[int]", values: Sequence[object]) -> Features:
    """One column a value; a value that is not in the list is in none."""
    return np.stack([_flags(column == value) for value in values], axis=1)


def _binned(column: "pd.Series[float]", edges: Sequence[float]) -> Features:
    """Indicators of the bins that the edges make; each edge opens a bin."""
    numbers = np.searchsorted(np.asarray(edges), column.to_numpy(dtype=np.float64), side="right")
    return np.eye(len(edges) + 1, dtype=np.float32)[numbers]


def _logarithmic(amounts: npt.NDArray[np.float64]) -> Features:
    """Signed logarithms of amounts, in [-1, 1]."""
    clipped = np.clip(amounts, -_MONEY_LIMIT, _MONEY_LIMIT)
    logarithms = np.sign(clipped) * np.log1p(np.abs(clipped) / _MONEY_UNIT)
    return np.asarray(logarithms / np.log1p(_MONEY_LIMIT / _MONEY_UNIT), dtype=np.float32)


def _of_unit_length(columns: Sequence[Features]) -> Features:
    """All columns, divided by a constant that brings a record's length to about 1."""
    return np.concatenate(columns, axis=1) / np.float32(np.sqrt(len(columns)))


def _flags(condition: "pd.Series[bool]") -> npt.NDArray[np.float32]:
    return np.asarray(condition, dtype=np.float32)
