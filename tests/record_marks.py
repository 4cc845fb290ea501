"""Records with marks in them, and the search for the marks in everything else.

A mark is a number and a word that stand nowhere else. It is looked for as text, as the bytes of
numbers, and in the spellings in which a program could have passed either on.
"""

import base64
import struct
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
from real_federation import hospitals

from sordino_deploy.local import LocalSite

NUMBER = "234.56789"
WORD = "zq-mark-in-a-record-qz"


def needles() -> list[bytes]:
    """The marks in every spelling."""
    value = float(NUMBER)
    packed = [struct.pack(form, value) for form in ("<d", ">d", "<f", ">f")]
    words = [each.encode() for each in (NUMBER, NUMBER.replace(".", ""), value.hex(), WORD)]
    plain = [*words, *packed]
    spelled = [base64.b64encode(each).rstrip(b"=")[:-1] for each in words]
    return [*plain, *spelled, *(each.hex().encode() for each in plain)]


def leaks(content: bytes) -> list[bytes]:
    """The marks that are in something."""
    return [each for each in needles() if each in content]


def marked(directory: Path, name: str) -> LocalSite:
    """A hospital in whose records a number is marked."""
    (site,) = hospitals(directory, [name])
    header, *rows = site.records.read_text().splitlines()
    column = header.split(",").index("chol")
    lines = [header]
    for number, row in enumerate(rows):
        values = row.split(",")
        values[column] = NUMBER if number % 3 == 0 else values[column]
        lines.append(",".join(values))
    site.records.write_text("\n".join(lines) + "\n")
    if not leaks(site.records.read_bytes()):
        raise AssertionError("nothing was marked")
    return site


def in_parquet(site: LocalSite) -> LocalSite:
    """The same hospital with a Parquet file of its records."""
    records = site.records.with_suffix(".parquet")
    table = pyarrow.csv.read_csv(site.records)
    # Plain, so that the search would find the marks in the file itself.
    pyarrow.parquet.write_table(table, records, compression="none", use_dictionary=False)
    if not leaks(records.read_bytes()):
        raise AssertionError("the marks are not in the file")
    declared = site.dataset.replace('"csv"', '"parquet"').replace(site.records.name, records.name)
    return LocalSite(site.name, declared, records, site.policy)


def break_records(path: Path) -> None:
    """Put a marked word where the age is, of which nothing but a number is taken."""
    match path.suffix:
        case ".parquet":
            table = pyarrow.parquet.read_table(path)
            broken = table.set_column(0, "age", [[f"{WORD}-{each}" for each in range(len(table))]])
            pyarrow.parquet.write_table(broken, path, compression="none")
        case _:
            header, *rows = path.read_text().splitlines()
            lines = [header, *(f"{WORD}{row[row.index(',') :]}" for row in rows)]
            path.write_text("\n".join(lines) + "\n")
