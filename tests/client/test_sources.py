"""What an admin may declare as a source, and how it is told what is wrong."""

from pathlib import Path

import pytest
from wards import read, write_declaration

from sordino_client.data.credentials import read_private
from sordino_client.data.sources import CsvSource, SqlSource
from sordino_protocols.errors import InputError, NotFoundError


def test_a_source_is_a_file_an_object_or_rows_of_a_database(tmp_path: Path) -> None:
    (tmp_path / "db.url").write_text("postgresql+psycopg://reader:hunter2@db.example/wards\n")
    (tmp_path / "db.url").chmod(0o600)
    local = read(tmp_path, 'kind = "csv"\npath = "part-*.csv"')
    assert local.source.place == str(tmp_path / "part-*.csv")
    assert not local.source.is_remote
    store = read(tmp_path, 'kind = "parquet"\nurl = "s3://wards/2024/*.parquet"')
    assert store.source.place == "s3://wards/2024/*.parquet"
    assert store.source.is_remote
    database = read(tmp_path, 'kind = "sql"\nurl_file = "db.url"\ntable = "stays"')
    assert database.source.is_remote
    assert "hunter2" not in repr(database) + database.source.place
    (tmp_path / "db.url").write_text(f"sqlite:///{tmp_path}/wards.db")
    assert not database.source.is_remote


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    source = read(tmp_path, f'kind = "csv"\nurl = "file://{tmp_path}/r.csv"').source
    assert isinstance(source, CsvSource)
    assert (source.path, source.url, source.is_remote) == (tmp_path / "r.csv", None, False)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('kind = "xml"', "source.kind: must be one of 'csv', 'parquet', 'sql'"),
        ('kind = "csv"', "source: exactly one of path and url is required"),
        ('kind = "csv"\npath = "a"\nurl = "s3://b/c"', "exactly one of path and url"),
        ('kind = "csv"\nurl = "ftp://b/c"', "source.url: must be s3://bucket/key or file:///path"),
        ('kind = "csv"\nurl = "s3://bucket"', "must be s3://bucket/key"),
        ('kind = "csv"\nurl = "s3://me:pw@b/c"', "must hold no user, password or query"),
        ('kind = "csv"\nurl = "s3://b/c?X-Amz-Signature=pw"', "must hold no user, password"),
        ('kind = "csv"\npath = "a"\noptions_file = "o.toml"', "options_file goes with url"),
        ('kind = "sql"\ntable = "t"', "source.url_file: missing"),
        ('kind = "sql"\nurl = "sqlite:////pw"', "source.url: unknown key"),
        ('kind = "sql"\nurl_file = "u"', "exactly one of table and query is required"),
        ('kind = "sql"\nurl_file = "u"\ntable = "t"\nquery = "SELECT 1"', "exactly one of table"),
        ('kind = "sql"\nurl_file = "u"\nquery = "DELETE FROM t"', "query must be one SELECT"),
        ('kind = "sql"\nurl_file = "u"\nquery = "SELECT 1; DROP TABLE t"', "without a semicolon"),
        (
            'kind = "sql"\nurl_file = "u"\nquery = "SELECT 1"\nschema = "s"',
            "schema goes with table",
        ),
        ('kind = "sql"\nurl_file = "u"\ntable = "t"\ntimeout_seconds = 0', "timeout_seconds"),
        (
            'kind = "csv"\npath = "a"\nwhere = [{column = "x"}]',
            "exactly one is required: in, not_in",
        ),
        (
            'kind = "csv"\npath = "a"\nwhere = [{column = "x", in = ["y"], min = 1}]',
            "exactly one is required: in, not_in",
        ),
        ('kind = "csv"\npath = "a"\nwhere = [{column = "x", in = []}]', "source.where[0].in"),
        ('kind = "csv"\npath = "a"\nwhere = [{column = "x", inn = ["y"]}]', "did you mean 'in'?"),
        (
            'kind = "csv"\npath = "a"\nwhere = [{column = "x", min = 2, max = 1}]',
            "min must not be above max",
        ),
    ],
)
def test_says_what_is_wrong_and_where(tmp_path: Path, source: str, expected: str) -> None:
    path = write_declaration(tmp_path, source)
    with pytest.raises(InputError) as caught:
        read(tmp_path, source)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "pw" not in str(caught.value)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "db.url"
    secret.write_text("sqlite:////pw")
    secret.chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        read_private(secret)
    secret.chmod(0o600)
    assert read_private(secret) == "sqlite:////pw"
    with pytest.raises(NotFoundError):
        read_private(tmp_path / "none")


def test_a_credential_is_what_systemd_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(tmp_path, 'kind = "sql"\nurl_file = "credential:wards"\ntable = "t"').source
    assert isinstance(source, SqlSource)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(InputError, match="LoadCredential="):
        read_private(source.url_file)
    (tmp_path / "passed").mkdir()
    (tmp_path / "passed" / "wards").write_text("sqlite:////x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "passed"))
    assert read_private(source.url_file) == "sqlite:////x"
    with pytest.raises(InputError, match="name '\\.\\./wards' must be"):
        read_private(Path("credential:../wards"))
