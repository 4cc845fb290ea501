"""Checks that any daemon can make of its host: the disk, a certificate, the clock."""

import contextlib
import datetime as dt
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from sordino_protocols.certificates import not_after
from sordino_protocols.health import Finding

CERTIFICATE_HOURS = 24.0
"""A certificate with less than this left is a failure that has not happened yet."""

CLOCK_SECONDS = 60.0
"""How far the clock may jump, or lie behind what was written, before somebody should look."""

_PROBE_BYTES = 4096


def writable(directory: Path) -> Finding:
    """Whether a few kilobytes can be written to the disk, which `os.access` cannot tell."""
    probe = directory / f".probe-{secrets.token_hex(4)}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(is_ok=False, detail=f"the state cannot be written: {error.strerror}")
    finally:
        probe.unlink(missing_ok=True)
    return Finding(is_ok=True, detail="the state can be written")


def certificate_lasts(path: Path, *, now: dt.datetime) -> Finding:
    """Whether a certificate holds for another day."""
    expires = not_after(path)
    hours = (expires - now).total_seconds() / 3600
    detail = f"{path.name} is valid until {expires:%Y-%m-%d %H:%M} UTC"
    return Finding(is_ok=hours > CERTIFICATE_HOURS, detail=detail)


class Clock:
    """Whether this host's time can be relied on, as far as a host can tell by itself.

    Two things show that it cannot: it jumped against the clock that only counts since the start,
    or it is behind a file that was written before.
    """

    def __init__(
        self,
        state: Path,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def check(self) -> Finding:
        """Compare now."""
        jump = self._wall() - self._steady() - self._offset
        behind = max(self._written() - self._wall(), 0.0)
        if abs(jump) > CLOCK_SECONDS:
            return Finding(is_ok=False, detail=f"the clock jumped by {jump:+.0f} s since the start")
        if behind > CLOCK_SECONDS:
            detail = f"the clock is {behind:.0f} s behind what was written here before"
            return Finding(is_ok=False, detail=detail)
        return Finding(is_ok=True, detail="the clock is steady")

    def _written(self) -> float:
        """When something below the state was last written, by the clock of then."""
        # Not the directory itself: the check that the disk can be written has just changed that.
        times = []
        for pattern in ("[!.]*", "*/[!.]*"):
            for path in self._state.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    times.append(path.stat().st_mtime)
        return max(times, default=0.0)
