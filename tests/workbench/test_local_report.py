"""The page that stays with the records: its figures know good rows from bad, and it says where."""

import re
from pathlib import Path

import numpy as np
import pytest
from plausible_synthesis import SCHEMA, visits

from sordino.local_figures import LocalFigures, compare
from sordino.local_report import render
from sordino.real_records import RealRecords, records_of_files
from sordino.toml_text import toml_text
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.privacy import Guarantee
from sordino_protocols.synthesis.mock import mock_cells

ROWS = 800
RNG_SEED = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("visits")
    visits(ROWS, seed=1).to_csv(path / "visits.csv", index=False)
    visits(ROWS // 2, seed=2).to_parquet(path / "others.parquet")
    text = toml_text(SCHEMA.model_dump(mode="json", exclude_unset=True))
    (path / "visits.toml").write_text(text)
    return path


@pytest.fixture(scope="module")
def real(folder: Path) -> RealRecords:
    return records_of_files(
        folder / "visits.csv",
        folder / "visits.toml",
        folder / "others.parquet",
        rng=np.random.default_rng(RNG_SEED),
    )


def compared(real: RealRecords, cells: np.ndarray) -> LocalFigures:
    rng = np.random.default_rng(RNG_SEED)
    return compare(real, cells, guarantee=Guarantee(1.0, 1e-5), rng=rng)


@pytest.fixture(scope="module")
def copied(real: RealRecords) -> LocalFigures:
    """The worst for privacy: the rows are the members themselves."""
    return compared(real, real.members.cells)


@pytest.fixture(scope="module")
def made_up(real: RealRecords) -> LocalFigures:
    """The worst for fidelity: rows of the schema alone."""
    return compared(real, mock_cells(SCHEMA, ROWS, rng=np.random.default_rng(RNG_SEED)))


def test_copies_are_faithful_and_made_up_rows_are_not(
    copied: LocalFigures, made_up: LocalFigures
) -> None:
    assert copied.fidelity.variations[2, "fine"] == 0
    assert copied.fidelity.query_errors.max() == 0
    assert made_up.fidelity.variations[2, "coarse"] > 0.2
    assert made_up.fidelity.query_errors.mean() > 0.02


def test_models_learn_from_copies_alone(copied: LocalFigures, made_up: LocalFigures) -> None:
    # Seeds and labels are the same; a value drawn anew within its cell may move a split.
    assert copied.utility.synthetic["linear"] == pytest.approx(
        copied.utility.real["linear"], abs=0.02
    )
    assert made_up.utility.synthetic["linear"] < copied.utility.real["linear"] - 0.1


def test_groups_of_made_up_rows_have_other_sizes(
    copied: LocalFigures, made_up: LocalFigures
) -> None:
    assert {group.label for group in copied.utility.groups} == {"north", "south", "west"}
    assert all(group.size.ratio == pytest.approx(1) for group in copied.utility.groups)
    assert any(abs(group.size.ratio - 1) > 0.15 for group in made_up.utility.groups)


def test_copies_are_recognised_and_made_up_rows_are_not(
    copied: LocalFigures, made_up: LocalFigures
) -> None:
    assert copied.attacks is not None
    assert made_up.attacks is not None
    (everything,) = [each for each in copied.attacks.divergences if each.query == "all columns"]
    assert everything.advantage.low > everything.most
    assert all(each.advantage.low < each.most for each in made_up.attacks.divergences)
    assert copied.attacks.nearest.identical == 1


def test_without_unseen_records_no_attack_is_tried(folder: Path) -> None:
    rng = np.random.default_rng(RNG_SEED)
    real = records_of_files(folder / "visits.csv", folder / "visits.toml", None, rng=rng)
    figures = compared(real, real.members.cells)
    assert figures.attacks is None
    assert "Not tried" in render(figures, source="rows")


def test_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(RNG_SEED)
    with pytest.raises(NotFoundError, match=r"absent\.csv"):
        records_of_files(tmp_path / "absent.csv", folder / "visits.toml", None, rng=rng)
    visits(10, seed=1).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(InputError, match="fewer than 20"):
        records_of_files(
            folder / "visits.csv", folder / "visits.toml", tmp_path / "few.csv", rng=rng
        )


def test_its_text_shows_no_record(real: RealRecords) -> None:
    assert repr(real.members) == "Records(...)"


def test_the_page_is_whole_and_loads_nothing(copied: LocalFigures) -> None:
    page = render(copied, source="<script>alert(1)</script>")
    assert "Keep this page where the records are" in page
    assert page.count("<svg") == 7
    assert "<script" not in page
    assert "http" not in page
    assert not re.findall(r"#0[1-9]0[1-9]0[1-9]", page)


def test_distance_to_records_is_shown_grey_and_called_inadequate(copied: LocalFigures) -> None:
    page = render(copied, source="rows")
    assert re.search(r'class="card inadequate".*?[Ii]nadequate', page, flags=re.DOTALL)
    assert ".inadequate { opacity" in page
