"""What the reader process sends of sources that the vault cannot reach, as tables.

The vault has no network here. The reader may end or hang at any time: then loading fails with the
reason, and nothing is served.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sordino_client.data.declaration import DatasetFile
from sordino_client.data.frames import Frame, FrameReader, Kind
from sordino_client.reader import Reader
from sordino_protocols.errors import InputError


class RemoteTables:
    """Everything that one reader sends; asked for in the order of its files, each once."""

    def __init__(self, reader: Reader, *, stop: threading.Event) -> None:
        self._reader = reader
        self._frames = FrameReader(reader.output, stop=stop)

    def has(self, path: Path) -> bool:
        """Whether the reader reads the source that this file declares."""
        return path in self._reader.paths

    def cells(self, path: Path, file: DatasetFile) -> Iterator["pa.Table"]:
        """What `read_cells` gives in the reader.

        Raises:
            InputError: what it raises there; or the reader ended, or said nothing for
                `source.timeout_seconds`.
        """
        self._reader.ask_for(path)
        while True:
            match self._next(path, file):
                case Frame(Kind.CELLS, content):
                    with pa.ipc.open_stream(content) as stream:
                        yield stream.read_all()
                case Frame(Kind.FAILED, content):
                    self._reader.end()
                    raise InputError(content.decode("utf-8", "replace"))
                case Frame(Kind.DONE):
                    return

    def close(self) -> None:
        """Return when the reader is gone; it has been asked for nothing more."""
        self._reader.end()

    def _next(self, path: Path, file: DatasetFile) -> Frame:
        seconds = file.source.timeout_seconds
        try:
            return self._frames.next(timeout_seconds=seconds)
        except TimeoutError:
            problem = f"nothing came for {seconds:g} s; see source.timeout_seconds"
        except InterruptedError:
            problem = "the vault was told to end meanwhile"
        except EOFError:
            problem = "the reader process ended before it had read everything"
        self._reader.end()
        raise InputError(f"{path}: {file.source.place}: {problem}")
