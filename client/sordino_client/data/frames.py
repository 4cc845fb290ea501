"""Frames on a pipe between two processes of one site: a kind, a length, that many bytes.

The end that receives waits for bytes and not for ever: it must notice that the other end died or
hangs.
"""

import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

_HEADER = struct.Struct(">BQ")
_LOOK_SECONDS = 0.5
_CHUNK_BYTES = 2**20


class Kind(IntEnum):
    """What a frame holds: an Arrow stream of rows; nothing, at the end; or why there are none."""

    CELLS = 1
    DONE = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: Kind
    content: bytes

    def __repr__(self) -> str:
        return f"Frame({self.kind.name}, ...)"


def send(frame: Frame, pipe: BinaryIO) -> None:
    """Write a frame and flush; waits for the other end to read."""
    pipe.write(_HEADER.pack(frame.kind, len(frame.content)))
    pipe.write(frame.content)
    pipe.flush()


class FrameReader:
    """Receives frames from a pipe's file descriptor.

    Args:
        descriptor: of the pipe; stays open.
        stop: when set, waiting ends.
    """

    def __init__(self, descriptor: int, *, stop: threading.Event) -> None:
        self._descriptor = descriptor
        self._stop = stop

    def next(self, *, timeout_seconds: float) -> Frame:
        """The next frame.

        Raises:
            TimeoutError: no byte came for so long.
            InterruptedError: `stop` was set.
            EOFError: the other end is closed, or sent no frame.
        """
        kind, size = _HEADER.unpack(self._exactly(_HEADER.size, timeout_seconds))
        if kind not in set(Kind):
            raise EOFError
        return Frame(Kind(kind), self._exactly(size, timeout_seconds))

    def _exactly(self, size: int, timeout_seconds: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._wait(timeout_seconds)
            chunk = os.read(self._descriptor, min(_CHUNK_BYTES, size - len(content)))
            if not chunk:
                raise EOFError
            content += chunk
        return bytes(content)

    def _wait(self, timeout_seconds: float) -> None:
        """Return when a byte, or the end, can be read."""
        end = time.monotonic() + timeout_seconds
        while not self._stop.is_set():
            left = end - time.monotonic()
            readable, _, _ = select.select(
                [self._descriptor], [], [], max(0, min(_LOOK_SECONDS, left))
            )
            if readable:
                return
            if left <= 0:
                raise TimeoutError
        raise InterruptedError
