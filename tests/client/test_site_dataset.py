"""A view of a data set has the bits of a data set that never had the other columns."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.site_dataset import LARGEST_VIEW_COUNT, SiteDataset
from sordino_client.data.storage import Spill
from sordino_client.data.table import Table, split
from sordino_protocols.errors import InputError

COLUMNS = {
    "age": '[columns.age]\ntype = "integer"\nmin = 20\nmax = 90\nnullable = true\n',
    "dose": '[columns.dose]\ntype = "number"\nmin = 1\nmax = 9\nscale = "log1p"\n',
    "scan": '[columns.scan]\ntype = "vector"\ncount = 3\nmin = 0\nmax = 255\n',
    "ward": '[columns.ward]\ntype = "category"\nvalues = ["a", "b"]\nother = "rest"\n',
}
KEY = bytes(range(32))
Features = NDArray[np.float32] | NDArray[np.int64]


def declaration(columns: list[str], *, unit: bool) -> str:
    entity = 'unit = "patient"\nmax_records_per_unit = 3\n' if unit else ""
    return (
        f'[dataset]\nname = "wards"\nversion = 1\n{entity}order_of_magnitude = 100\n'
        "holdout_fraction = 0.3\n"
        + "".join(COLUMNS[name] for name in columns)
        + '[columns.ill]\ntype = "integer"\nmin = 0\nmax = 1\n'
        '[roles]\nlabel = "ill"\npositive_above = 0\n'
        '[source]\nkind = "csv"\npath = "records.csv"\n'
    )


def write(directory: Path, columns: list[str], *, unit: bool = True) -> DatasetFile:
    rng = np.random.default_rng(4)
    lines = ["patient,ward,scan_0,scan_1,scan_2,ill,dose,age"]
    for _ in range(200):
        age = "" if rng.random() < 0.1 else int(rng.integers(10, 99))
        scan = ",".join(str(each) for each in rng.integers(0, 300, 3))
        word, ill, dose = rng.choice(["a", "b", "z"]), rng.integers(0, 2), rng.uniform(0, 11)
        lines.append(f"p{rng.integers(0, 60)},{word},{scan},{ill},{dose},{age}")
    (directory / "records.csv").write_text("\n".join(lines) + "\n")
    path = directory / "wards.toml"
    path.write_text(declaration(columns, unit=unit))
    return read_dataset(path)


def load(file: DatasetFile, spill: Spill | None = None) -> SiteDataset:
    training, heldout = split(load_table(file, spill=spill), fraction=0.3, key=KEY, spill=spill)
    return SiteDataset(file.public, training, heldout, spill)


def same(one: Table, other: Table) -> bool:
    assert one.entities is not None
    assert other.entities is not None
    return (
        one.features.tobytes() == other.features.tobytes()
        and one.features.shape == other.features.shape
        and one.features.dtype == other.features.dtype
        and np.array_equal(one.labels, other.labels)
        and np.array_equal(one.entities.order, other.entities.order)
        and np.array_equal(one.entities.starts, other.entities.starts)
    )


@pytest.mark.parametrize(
    "columns", [("ward",), ("ward", "age"), ("scan", "dose"), ("dose", "age", "ward")]
)
@pytest.mark.parametrize("above", [None, 0])
def test_a_view_has_the_bits_of_a_narrower_declaration(
    tmp_path: Path, columns: tuple[str, ...], above: int | None
) -> None:
    spill = None if above is None else Spill(tmp_path, above_bytes=above)
    view = load(write(tmp_path, list(COLUMNS)), spill).narrowed(columns)
    alone = load(write(tmp_path, sorted(columns, reverse=True)), spill)
    assert view.schema == alone.schema
    assert view.schema.digest() == alone.schema.digest()
    assert same(view.training, alone.training)
    assert same(view.heldout, alone.heldout)
    assert view.training.features.flags.c_contiguous
    assert not same(load(write(tmp_path, list(COLUMNS)), spill).training, alone.training)


def test_the_split_of_records_is_that_of_the_whole_data_set(tmp_path: Path) -> None:
    # By records: a side follows from all that is declared, never from what one job asks for.
    whole = load(write(tmp_path, list(COLUMNS), unit=False))
    view = whole.narrowed(("ward",))
    wards = [whole.schema.feature_names().index(f"ward={word}") for word in ("a", "b", "rest")]
    assert np.array_equal(view.training.features, whole.training.features[:, wards])
    assert view.training.labels is whole.training.labels


def test_a_view_of_a_mapped_table_is_mapped(tmp_path: Path) -> None:
    file = write(tmp_path, list(COLUMNS))
    view = load(file, Spill(tmp_path, above_bytes=0)).narrowed(("age", "dose"))
    assert is_mapped(view.training.features)
    assert is_mapped(view.heldout.features)
    assert not is_mapped(load(file).narrowed(("age", "dose")).training.features)


def is_mapped(array: Features | None) -> bool:
    below: object = array
    while isinstance(below, np.ndarray) and not isinstance(below, np.memmap):
        below = below.base
    return isinstance(below, np.memmap)


def test_a_view_is_made_once_whatever_the_order_of_its_columns(tmp_path: Path) -> None:
    whole = load(write(tmp_path, list(COLUMNS)))
    first = whole.narrowed(("age", "dose"))
    assert whole.narrowed(("dose", "age")) is first
    assert whole.narrowed(()) is whole
    assert whole.narrowed(tuple(COLUMNS)) is whole
    others = [("age",), ("dose",), ("scan",), ("ward",)]
    for columns in others:
        whole.narrowed(columns)
    assert len(whole._views) == LARGEST_VIEW_COUNT
    assert whole.narrowed(("dose", "age")) is not first


def test_an_unknown_column_makes_no_view(tmp_path: Path) -> None:
    whole = load(write(tmp_path, list(COLUMNS)))
    with pytest.raises(InputError, match="'ill' is no feature column"):
        whole.narrowed(("age", "ill"))
    assert not whole._views
