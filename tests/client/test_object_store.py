"""Files in an object store are what the same files are on this machine."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from object_store import BUCKET, SECRET, ObjectServer, object_server
from wards import CANARY, COLUMNS, ROWS, csv_text, read, write_private

from sordino_client.data.connectors import load_table
from sordino_client.data.object_store import open_store
from sordino_protocols.errors import InputError, NotFoundError

CSV = f'kind = "csv"\nurl = "s3://{BUCKET}/records.csv"\noptions_file = "s3.toml"'
PARQUET = CSV.replace("csv", "parquet", 1).replace(".csv", ".parquet")


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


def parquet() -> bytes:
    columns = dict(zip(COLUMNS, map(pa.array, zip(*ROWS, strict=True)), strict=True))
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize("source", [CSV, PARQUET])
def test_an_object_is_what_a_local_file_is(
    server: ObjectServer, tmp_path: Path, source: str
) -> None:
    server.write_options(tmp_path / "s3.toml")
    for name, content in (("records.csv", csv_text().encode()), ("records.parquet", parquet())):
        server.put(name, content)
        (tmp_path / name).write_bytes(content)
    remote = load_table(read(tmp_path, source))
    local = source.replace(f"s3://{BUCKET}", f"file://{tmp_path}").replace(
        'options_file = "s3.toml"', ""
    )
    same = load_table(read(tmp_path, local))
    assert remote.features.tobytes() == same.features.tobytes()
    assert np.array_equal(remote.labels, same.labels)
    assert len(remote.labels) == 30


def test_a_pattern_names_several_objects(server: ObjectServer, tmp_path: Path) -> None:
    server.write_options(tmp_path / "s3.toml")
    server.put("year/part-2.csv", csv_text(ROWS[10:]).encode())
    server.put("year/part-1.csv", csv_text(ROWS[:10]).encode())
    server.put("year/other.txt", b"not a table")
    parts = load_table(read(tmp_path, CSV.replace("records.csv", "year/part-*.csv")))
    (tmp_path / "all.csv").write_text(csv_text())
    whole = load_table(read(tmp_path, 'kind = "csv"\npath = "all.csv"'))
    assert parts.features.tobytes() == whole.features.tobytes()


def test_columns_that_are_not_declared_are_not_fetched(
    server: ObjectServer, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    columns = dict(zip(COLUMNS, map(pa.array, zip(*ROWS, strict=True)), strict=True))
    columns["secret"] = pa.array([rng.bytes(100_000) for _ in ROWS])
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    assert len(file.getvalue()) > 3_000_000
    server.put("wide.parquet", file.getvalue())
    store = open_store(server.write_options(tmp_path / "s3.toml"), timeout_seconds=60)
    fetched: list[int] = []
    with store.open(f"{BUCKET}/wide.parquet", in_order=False) as opened:
        cache = opened.cache  # type: ignore[attr-defined]  # fsspec's, between it and the network
        fetch = cache.fetcher

        def counting(start: int, end: int) -> bytes:
            fetched.append(end - start)
            return bytes(fetch(start, end))

        cache.fetcher = counting
        pyarrow.parquet.ParquetFile(opened, pre_buffer=False).read(columns=["age", "ill"])
    assert 0 < sum(fetched) < 200_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("records.csv", "absent.csv", "no object has such a name"),
        (f"//{BUCKET}/", "//elsewhere/", "no object has such a name"),
        ("records.csv", "none-*.csv", "no object has such a name"),
        ("records.csv", "broken.csv", "garbled"),
        ('kind = "csv"', 'kind = "parquet"', "no readable Parquet file"),
    ],
)
def test_an_object_that_cannot_be_read_is_named(
    server: ObjectServer, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    server.put("records.csv", csv_text().encode())
    server.put("broken.csv", csv_text().encode() + f"{CANARY},1\n".encode())
    server.write_options(tmp_path / "s3.toml")
    assert old in CSV
    with pytest.raises(InputError, match=expected) as caught:
        load_table(read(tmp_path, CSV.replace(old, new)))
    assert str(caught.value).startswith("s3://")
    assert CANARY not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_store_that_does_not_answer_is_an_error_without_its_secret(tmp_path: Path) -> None:
    write_private(
        tmp_path / "s3.toml",
        f'endpoint_url = "http://127.0.0.1:1"\nkey = "reader"\nsecret = "{SECRET}"\n',
    )
    with pytest.raises(InputError, match="the object store cannot be read: ") as caught:
        load_table(read(tmp_path, CSV + "\ntimeout_seconds = 1"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        ('secrets = "hunter2"', 0o600, "secrets: unknown key; did you mean 'secret'?"),
        ("secret = 1", 0o600, "secret: should be a valid string"),
        ('secret = "hunter2', 0o600, "not valid TOML"),
        ('secret = "hunter2"', 0o644, "fix: chmod 600"),
    ],
)
def test_options_are_strict_and_private(
    tmp_path: Path, text: str, mode: int, expected: str
) -> None:
    write_private(tmp_path / "s3.toml", text).chmod(mode)
    with pytest.raises(InputError) as caught:
        load_table(read(tmp_path, CSV))
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_absent_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"s3\.toml: no such file"):
        load_table(read(tmp_path, CSV))
