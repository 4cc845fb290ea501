"""Frames come through a pipe as they were sent; an end that dies or hangs is noticed."""

import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.data.frames import Frame, FrameReader, Kind, send

frames = st.builds(Frame, st.sampled_from(Kind), st.binary(max_size=2_000))


class Pipe:
    """Both ends of a pipe, and whoever receives."""

    def __init__(self) -> None:
        self.descriptor, write = os.pipe()
        self.input = os.fdopen(write, "wb")
        self.stop = threading.Event()
        self.frames = FrameReader(self.descriptor, stop=self.stop)

    def next(self, *, timeout_seconds: float = 60.0) -> Frame:
        return self.frames.next(timeout_seconds=timeout_seconds)

    def close(self) -> None:
        self.input.close()
        os.close(self.descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@given(st.lists(frames, max_size=5))
def test_frames_come_as_they_were_sent(sent: list[Frame]) -> None:
    pipe = Pipe()
    for frame in sent:
        send(frame, pipe.input)
    assert [pipe.next() for _ in sent] == sent
    pipe.close()


def test_a_frame_may_be_larger_than_the_pipe(pipe: Pipe) -> None:
    frame = Frame(Kind.CELLS, os.urandom(3_000_000))
    sending = threading.Thread(target=send, args=(frame, pipe.input))
    sending.start()
    assert pipe.next() == frame
    sending.join()


@pytest.mark.parametrize("size", [0, 1, 9, 12])
def test_an_end_in_the_middle_is_no_frame(pipe: Pipe, size: int) -> None:
    send(Frame(Kind.DONE, b""), pipe.input)
    whole = b"\x01" + (5).to_bytes(8, "big") + b"abcde"
    pipe.input.write(whole[:size])
    pipe.input.close()
    assert pipe.next() == Frame(Kind.DONE, b"")
    with pytest.raises(EOFError):
        pipe.next()


def test_bytes_of_no_known_kind_are_no_frame(pipe: Pipe) -> None:
    pipe.input.write(b"printed by a library")
    pipe.input.flush()
    with pytest.raises(EOFError):
        pipe.next()


def test_silence_ends(pipe: Pipe) -> None:
    with pytest.raises(TimeoutError):
        pipe.next(timeout_seconds=0.01)
    pipe.stop.set()
    with pytest.raises(InterruptedError):
        pipe.next()


def test_a_frame_does_not_show_what_it_holds() -> None:
    assert "secret" not in repr(Frame(Kind.CELLS, b"secret"))
