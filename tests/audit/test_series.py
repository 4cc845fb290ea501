"""The series of reports: what is altered, dropped or slipped in is found."""

import json
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audit_documents import of_an_installation

from sordino_audit.sealing import canonical_hash, sealed, to_json
from sordino_audit.series import Filed, Series, chained
from sordino_audit.shelf import Shelf, current, verified
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError

REPORTS = 4


def file_one(series: Series, subject: str = "north") -> Filed:
    document = of_an_installation().model_copy(update={"subject": subject})
    return series.append(lambda previous: chained(document, previous))


@pytest.fixture
def series(tmp_path: Path) -> Series:
    made = Series(tmp_path / "reports")
    for number in range(REPORTS):
        file_one(made, f"site-{number}")
    return made


def edit(path: Path, change: dict[str, object]) -> None:
    """As somebody would who knows how documents are hashed."""
    raw = {**json.loads(path.read_bytes()), **change}
    raw["hash"] = canonical_hash(raw)
    path.write_text(json.dumps(raw))


def test_each_report_follows_on_the_one_before(series: Series) -> None:
    reports = list(series.reports())
    assert [each.number for each in reports] == [1, 2, 3, 4]
    assert reports[0].path.name == "000001-self-test-site-0.json"
    hashes = [None, *(each.document.hash for each in reports)]
    assert [each.document.previous for each in reports] == hashes[:-1]
    assert series.verify() == REPORTS
    assert series.latest() == reports[-1]


def test_what_is_filed_is_what_was_made(tmp_path: Path) -> None:
    series = Series(tmp_path)
    first, second = file_one(series), file_one(series)
    assert first.document == sealed(of_an_installation())
    assert second.document.previous == first.document.hash
    assert second.path.read_text() == to_json(second.document)


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        (lambda paths: paths[1].unlink(), "report 2 of the series is missing"),
        (lambda paths: paths[0].unlink(), "report 1 of the series is missing"),
        (lambda paths: edit(paths[1], {"sentence": "All is well."}), "does not follow"),
        (lambda paths: edit(paths[0], {"previous": "ab" * 32}), "does not follow"),
        (lambda paths: edit(paths[3], {"subject": "other"}), "the file's name is not that"),
        (
            lambda paths: paths[1].write_text(paths[1].read_text().replace("loose", "tight", 1)),
            "altered",
        ),
        (lambda paths: paths[2].rename(paths[2].with_name("000009-self-test-x.json")), "report 3"),
        (lambda paths: paths[1].write_bytes(paths[2].read_bytes()), "does not follow"),
    ],
)
def test_tampering_is_found(
    series: Series, attack: Callable[[list[Path]], None], says: str
) -> None:
    attack(sorted(series.directory.glob("*.json")))
    with pytest.raises(IntegrityError, match=says):
        series.verify()


def test_cutting_off_the_end_is_found_by_who_noted_the_head(series: Series) -> None:
    head = series.latest().document.hash
    assert series.verify(head=head) == REPORTS
    series.latest().path.unlink()
    assert series.verify() == REPORTS - 1
    with pytest.raises(IntegrityError, match="cut off"):
        series.verify(head=head)


def test_nothing_is_put_behind_a_report_that_does_not_hold(series: Series) -> None:
    path = series.latest().path
    path.write_text(path.read_text().replace("loose", "tight", 1))
    with pytest.raises(IntegrityError, match="altered"):
        file_one(series)


def test_an_empty_series_is_not_verified(tmp_path: Path) -> None:
    for look in (Series(tmp_path).verify, Series(tmp_path).latest):
        with pytest.raises(NotFoundError, match="no reports here"):
            look()


def test_auditors_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: file_one(Series(tmp_path), f"s{number}"), range(24)))
    assert Series(tmp_path).verify() == 24


@pytest.mark.parametrize("subject", ["../../etc/passwd", "Heart disease, four hospitals", "", "ä"])
def test_a_subject_never_leads_out_of_the_directory(tmp_path: Path, subject: str) -> None:
    series = Series(tmp_path / "reports")
    filed = file_one(series, subject)
    assert filed.path.parent == tmp_path / "reports"
    assert filed.document.subject == subject
    assert series.verify() == 1


def test_private_reports_are_for_their_owner_alone(tmp_path: Path) -> None:
    filed = file_one(Series(tmp_path / "audits", is_private=True))
    assert stat.S_IMODE(filed.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(filed.path.stat().st_mode) == 0o600


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        file_one(Series(tmp_path / "file" / "reports"))


def test_other_files_in_the_directory_are_no_reports(series: Series) -> None:
    (series.directory / "e-values.json").write_text("{}")
    assert series.verify() == REPORTS


def test_a_report_is_found_by_number_by_path_and_as_the_latest(series: Series) -> None:
    shelf = Shelf(series.directory)
    assert shelf.find("2").path.name == "000002-self-test-site-1.json"
    assert shelf.find("latest").path == series.latest().path
    assert shelf.find(str(series.latest().path)).document == series.latest().document
    assert [row["number"] for row in shelf.rows()] == [1, 2, 3, 4]
    for absent in ("9", "nowhere.json"):
        with pytest.raises(NotFoundError, match="sordino audit show all"):
            shelf.find(absent)


def test_without_a_series_only_files_are_found(series: Series) -> None:
    with pytest.raises(InputError, match="--reports"):
        Shelf(None).find("latest")
    assert Shelf(None).find(str(series.latest().path)).document is not None


def test_an_audit_of_version_2_is_shown_and_has_no_page(tmp_path: Path) -> None:
    old: dict[str, object] = {"schema_version": 2, "run_id": "run-1", "verdict": "loose"}
    old["hash"] = canonical_hash(old)
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(old))
    found = Shelf(None).find(str(path))
    assert found.document is None
    assert found.old_facts()["verdict"] == "loose"
    assert verified(path, head=None)["last"] == old["hash"]
    with pytest.raises(InputError, match="version 2"):
        current(found)


def test_a_directory_and_a_file_are_verified(series: Series) -> None:
    last = series.latest()
    assert verified(series.directory, head=None)["reports"] == REPORTS
    assert verified(last.path, head=None)["last"] == last.document.hash
    with pytest.raises(InputError, match="series"):
        verified(last.path, head="ab")
    with pytest.raises(NotFoundError):
        verified(series.directory / "nothing", head=None)
