"""Features that lie in a file: the same to the last bit, gone with the process, small in memory."""

import os
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.data import cells, files
from sordino_client.data.connectors import load_table, read_cells
from sordino_client.data.declaration import read_dataset
from sordino_client.data.storage import RowStore, Spill
from sordino_client.data.table import Table, split
from sordino_protocols.errors import InputError

KEY = bytes(range(32))
DATASET = """
[dataset]
name = "wide"
version = 1
unit = "who"
max_records_per_unit = 3
order_of_magnitude = 1000
holdout_fraction = 0.2
[columns.x]
type = "vector"
count = 30
min = -3
max = 3
[columns.age]
type = "integer"
min = 0
max = 100
outside = "missing"
nullable = true
[columns.y]
type = "integer"
min = 0
max = 1
[roles]
label = "y"
positive_above = 0
[source]
"""


def write(
    directory: Path, kind: str, *, records: int = 3000, width: int = 30, unit: bool = True
) -> Path:
    rng = np.random.default_rng(8)
    columns = {f"x_{i}": pa.array(rng.normal(size=records)) for i in range(width)}
    columns["age"] = pa.array(rng.integers(0, 150, records))
    columns["who"] = pa.array([f"person {i}" for i in rng.integers(0, records // 4, records)])
    columns["y"] = pa.array(rng.integers(0, 2, records))
    if kind == "csv":
        pyarrow.csv.write_csv(pa.table(columns), directory / "wide.csv")
    else:
        pyarrow.parquet.write_table(
            pa.table(columns), directory / "wide.parquet", row_group_size=2000
        )
    text = (
        DATASET
        if unit
        else "".join(line for line in DATASET.splitlines(keepends=True) if "unit" not in line)
    )
    text = text.replace("count = 30", f"count = {width}")
    (directory / "wide.toml").write_text(f'{text}kind = "{kind}"\npath = "wide.{kind}"\n')
    return directory / "wide.toml"


def is_mapped(table: Table) -> bool:
    return isinstance(table.features.base, np.memmap)


def assert_same(table: Table, other: Table) -> None:
    assert table.features.dtype == other.features.dtype
    assert table.features.tobytes() == other.features.tobytes()
    assert table.labels.tobytes() == other.labels.tobytes()
    if table.entities is not None and other.entities is not None:
        assert np.array_equal(table.entities.order, other.entities.order)
        assert np.array_equal(table.entities.starts, other.entities.starts)
    assert (table.entities is None) == (other.entities is None)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_spilled_table_is_the_same_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, unit: bool
) -> None:
    dataset = read_dataset(write(tmp_path, kind, unit=unit))
    in_memory = load_table(dataset)
    monkeypatch.setattr(files, "_BLOCK_BYTES", 2**16)
    monkeypatch.setattr(cells, "BATCH_CELLS", 2**13)
    spill = Spill(tmp_path, above_bytes=50_000)
    spilled = load_table(dataset, spill=spill)
    assert is_mapped(spilled)
    assert not is_mapped(in_memory)
    assert spilled.features.flags.c_contiguous
    assert spilled.features.flags.writeable
    assert_same(spilled, in_memory)
    for apart, together in zip(
        split(spilled, fraction=0.3, key=KEY, spill=spill),
        split(in_memory, fraction=0.3, key=KEY),
        strict=True,
    ):
        assert is_mapped(apart)
        assert_same(apart, together)


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, "parquet"))
    size = load_table(dataset).features.nbytes
    assert not is_mapped(load_table(dataset, spill=Spill(tmp_path, above_bytes=size)))
    assert is_mapped(load_table(dataset, spill=Spill(tmp_path, above_bytes=size - 1)))


def test_no_file_is_left_or_seen(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    table = load_table(read_dataset(write(tmp_path, "csv")), spill=Spill(directory, above_bytes=0))
    assert is_mapped(table)
    assert list(directory.iterdir()) == []


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    store = RowStore(Spill(tmp_path, above_bytes=0))
    before = os.umask(0)
    try:
        store.append(np.ones((2, 3), np.float32))
    finally:
        os.umask(before)
    assert store._file is not None
    facts = os.fstat(store._file.fileno())
    assert (facts.st_mode & 0o777, facts.st_nlink) == (0o600, 0)
    store.finish()


def test_a_directory_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    store = RowStore(Spill(tmp_path / "absent", above_bytes=0))
    with pytest.raises(InputError, match="absent: encoded features cannot be written here"):
        store.append(np.ones((2, 3), np.float32))


def test_a_full_disk_is_an_error_that_names_the_directory(tmp_path: Path) -> None:
    full = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from sordino_client.data.storage import RowStore, Spill
        from sordino_protocols.errors import InputError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        store = RowStore(Spill(Path(sys.argv[1]), above_bytes=0))
        try:
            store.append(np.ones((100_000, 3), np.float32))
        except InputError as error:
            print(error)
    """)
    result = subprocess.run(
        [sys.executable, "-c", full, tmp_path], capture_output=True, text=True, check=True
    )
    assert f"{tmp_path}: encoded features cannot be written here" in result.stdout


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.sampled_from([None, 0, 24, 60]),
    st.sampled_from([np.float32, np.int64]),
)
def test_blocks_stand_below_each_other(
    sizes: list[int], above: int | None, kind: type[np.float32] | type[np.int64]
) -> None:
    spill = None if above is None else Spill(Path(tempfile.gettempdir()), above_bytes=above)
    store = RowStore(spill)
    whole = np.arange(3 * sum(sizes)).reshape(-1, 3).astype(kind)
    for block in np.split(whole, np.cumsum(sizes)[:-1]):
        store.append(block)
    joined = store.finish()
    assert joined.dtype == whole.dtype
    assert np.array_equal(joined, whole)


def test_a_store_without_a_block_has_no_width() -> None:
    with pytest.raises(ValueError, match="at least one block"):
        RowStore(None).finish()


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """The most bytes that Python and numpy held at once since the start; mapped files are none."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def wide_table(spill: Spill | None) -> Table:
    """80 MB of features in 80 blocks."""
    store = RowStore(spill)
    for number in range(80):
        store.append(np.full((25, 10_000), number, np.float32))
    return Table(store.finish(), np.zeros(2000, np.float32))


def peak_of_gathering_and_splitting(spill: Spill) -> tuple[int, int]:
    with peak_memory() as peak:
        table = wide_table(spill)
        gathered = peak()
        split(table, fraction=0.5, key=KEY, spill=spill)
        return gathered, peak()


def test_spilled_features_take_no_memory(tmp_path: Path) -> None:
    gathered, divided = peak_of_gathering_and_splitting(Spill(tmp_path, above_bytes=2**21))
    assert gathered < 2**23
    assert divided < 2**26


def test_features_in_memory_are_seen_by_that_measure(tmp_path: Path) -> None:
    gathered, divided = peak_of_gathering_and_splitting(Spill(tmp_path, above_bytes=2**30))
    assert gathered > 80 * 10**6
    assert divided > 160 * 10**6


def test_a_source_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BLOCK_BYTES", 2**14)
    monkeypatch.setattr(cells, "BATCH_CELLS", 2**12)
    for kind in ("csv", "parquet"):
        dataset = read_dataset(write(tmp_path, kind))
        sizes = [batch.num_rows for batch in read_cells(dataset)]
        assert sizes[0] == 0
        assert sum(sizes) == 3000
        assert max(sizes) * 33 < 2 * 2**12
