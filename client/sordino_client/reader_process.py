"""Read sources that need a network: `python -m sordino_client.reader_process FILE...`.

Started by the vault before it leaves the network. It gets the number of a file on its standard
input and answers with frames of cells on its standard output, and says nothing else to anybody: it
has no socket of its own, no ledger and no key. It ends with its vault.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from sordino_client.data.connectors import read_cells
from sordino_client.data.declaration import read_dataset
from sordino_client.data.frames import Frame, Kind, send
from sordino_protocols.errors import SordinoError

_SET_DEATH_SIGNAL = 1


def main(arguments: Sequence[str]) -> int:
    """Answer until the input ends."""
    _end_with_parent()
    with _answers() as pipe:
        for line in sys.stdin:
            send(_answer(Path(arguments[int(line)]), pipe), pipe)
    return 0


def _answer(path: Path, pipe: BinaryIO) -> Frame:
    """Send the cells of one source; the frame that ends them."""
    try:
        for table in read_cells(read_dataset(path)):
            send(Frame(Kind.CELLS, _stream(table)), pipe)
    except SordinoError as error:
        return Frame(Kind.FAILED, str(error).encode("utf-8"))
    except Exception as error:  # noqa: BLE001  # the boundary: a library's text may quote a record
        where = traceback.extract_tb(error.__traceback__)[-1]
        problem = f"{path}: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        return Frame(Kind.FAILED, problem.encode("utf-8"))
    return Frame(Kind.DONE, b"")


def _stream(table: "pa.Table") -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _answers() -> BinaryIO:
    """The pipe to the vault, out of reach of whatever prints."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return pipe


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
