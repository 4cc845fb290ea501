"""A finished synthesis, as the workbench reads it: in every mode, with what it can still give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plausible_synthesis import SCHEMA, finished_synthesis

from sordino.synthetic_frames import check_writable, write_frame
from sordino.synthetic_release import SyntheticRelease
from sordino.synthetic_source import Source
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.data.suggestion import read_records
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.privacy import Guarantee


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    return finished_synthesis(tmp_path_factory.mktemp("local") / "runs")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    return finished_synthesis(tmp_path_factory.mktemp("table") / "runs", mode="table")


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_draws_any_number_of_records_in_the_sources_format(local: SyntheticRelease) -> None:
    frame = local.frame(70, rng=rng())
    assert encode_cells(frame, SCHEMA).shape == (70, 8)
    assert abs(len(local.frame(rng=rng())) - 2_000) < 300
    assert abs(len(local.frame(rng=rng(), site="beta")) - 1_000) < 300


def test_tables_of_all_sites_can_be_fitted_again(local: SyntheticRelease) -> None:
    assert [each.site for each in local.site_tables()] == ["alpha", "beta"]
    assert all(np.isfinite(each.counts).all() for each in local.site_tables())


def test_a_sum_has_the_noise_of_all_its_sites(tmp_path: Path) -> None:
    summed = finished_synthesis(tmp_path / "runs", mode="sum")
    (table,) = summed.site_tables()
    whole = [each.noise_std for each in summed.plan.marginals]
    assert np.allclose(table.noise_stds, whole, rtol=1e-3)


def test_rows_of_the_sites_are_given_out_once(table: SyntheticRelease) -> None:
    assert table.units == 400
    cells = table.cells(400, rng=rng())
    made = np.concatenate(list(table.rows.values()))
    assert sorted(map(tuple, cells.tolist())) == sorted(map(tuple, made.tolist()))
    assert len(table.cells(None, rng=rng(), site="alpha")) == 200
    with pytest.raises(InputError, match="made 400 rows"):
        table.cells(401, rng=rng())


def test_an_unknown_site_is_named(local: SyntheticRelease, table: SyntheticRelease) -> None:
    for release in (local, table):
        with pytest.raises(NotFoundError, match="gamma"):
            release.cells(1, rng=rng(), site="gamma")


@pytest.mark.parametrize("name", ["sample.csv", "sample.parquet"])
def test_a_table_survives_its_file(local: SyntheticRelease, tmp_path: Path, name: str) -> None:
    frame = local.frame(50, rng=rng())
    write_frame(frame, tmp_path / "new" / name)
    read = read_records(tmp_path / "new" / name)
    assert np.array_equal(encode_cells(read, SCHEMA), encode_cells(frame, SCHEMA))
    with pytest.raises(InputError, match="exists already"):
        write_frame(frame, tmp_path / "new" / name)


def test_only_two_kinds_of_files_are_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        check_writable(tmp_path / "sample.xlsx")


def test_a_source_knows_its_data_set_and_its_price(local: SyntheticRelease) -> None:
    source = Source("run", local)
    assert source.dataset == "visits"
    assert source.guarantee == Guarantee(local.facts.epsilon_without_masks, 1e-5)
    assert len(source.cells_for(SCHEMA, 10, rng=rng())) == 10


def test_rows_from_elsewhere_know_neither(local: SyntheticRelease) -> None:
    source = Source("rows.csv", local.frame(30, rng=rng()))
    assert source.guarantee is None
    assert source.cells_for(SCHEMA, 10, rng=rng()).shape == (30, 8)
    with pytest.raises(InputError, match="use --data"):
        _ = source.dataset


def test_a_source_of_another_schema_is_refused(local: SyntheticRelease) -> None:
    columns = {name: each for name, each in SCHEMA.columns.items() if name != "cost"}
    other = SCHEMA.model_copy(update={"columns": columns})
    with pytest.raises(InputError, match="another schema"):
        Source("run", local).cells_for(other, 1, rng=rng())


def test_types_of_columns_follow_from_the_schema(local: SyntheticRelease) -> None:
    frame = local.frame(5, rng=rng())
    assert str(frame["age"].dtype) == "int64"
    assert str(frame["cost"].dtype) == "float64"
    assert isinstance(frame["towers"].iloc[0], str)
    assert list(frame.columns) == ["age", "cost", "ill", "towers", "ward"]
    assert isinstance(frame, pd.DataFrame)
