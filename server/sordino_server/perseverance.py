"""Going on when the server itself is in trouble: a full disk, a store that is away or broken.

Nothing of a run is lost by waiting: everything it knows is in its directory, and what was not
written is done again, with the same bytes, which costs no site anything. What must stay true: a
wait is bounded, and its bound begins anew only when the run got further; and a person reads in the
run's log what is waited for, as soon as the log can be written.
"""

import time
from collections.abc import Callable

import structlog

from sordino_protocols.errors import AuthenticationError, IntegrityError, UnreachableError
from sordino_server.questions import RunFailedError
from sordino_server.runs import HINDERED, RunDirectory

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# What a person can mend while the run waits.
_TROUBLES = (OSError, UnreachableError, IntegrityError, AuthenticationError)


class Perseverance:
    """The patience of one run with the server that it runs on."""

    def __init__(
        self,
        run: RunDirectory,
        *,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Be patient with a run.

        Args:
            run: whose log is written.
            patience_seconds: how long the run waits without getting any further.
            clock: seconds.
            sleep: waits.
        """
        self._run = run
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._sleep = sleep
        self._log = structlog.get_logger(component="server", run_id=run.run_id)
        self._since = 0.0
        self._pause = 0.0
        self._got_to: object = None
        self._untold: str | None = None
        self._told: str | None = None

    def persevere(self, work: Callable[[], None]) -> None:
        """Do work that may be begun again at any time, until it is done.

        Raises:
            RunFailedError: it failed by itself, or what hindered it was not mended in time.
        """
        while True:
            try:
                self._tell()
                work()
            except _TROUBLES as error:
                self._wait(_in_words(error))
            else:
                return

    def _wait(self, reason: str) -> None:
        got_to, now = self._progress(), self._clock()
        if self._pause == 0 or got_to != self._got_to:
            self._since, self._pause, self._got_to = now, _FIRST_PAUSE_SECONDS, got_to
        if now - self._since > self._patience_seconds:
            raise RunFailedError(f"the server could not go on, and nobody mended it: {reason}")
        if reason != self._told:
            self._log.error(HINDERED, reason=reason)
            self._untold = reason
        self._sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _tell(self) -> None:
        """Put the newest trouble into the run's log: while a disk is full, this is what fails."""
        if self._untold is not None:
            seconds = round(self._clock() - self._since, 1)
            self._run.record(HINDERED, reason=self._untold, seconds=seconds)
            self._told, self._untold = self._untold, None

    def _progress(self) -> object:
        """How far the run is; what cannot be read is no further than before."""
        try:
            checkpoint = self._run.checkpoint()
            return self._run.state(), 0 if checkpoint is None else checkpoint.rounds_done
        except _TROUBLES:
            return self._got_to


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return f"the server cannot read or write its files: {where}{error.strerror or 'no reason'}"
    return str(error)
