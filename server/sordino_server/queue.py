"""Runs waiting for their turn, one Flower run each; and runs that lost their process.

The queue is the directory of runs: whatever is not in a terminal state is still to be done. Runs
that train go one after the other, and so do those of any other purpose; none waits for another's.
What must stay true: a run whose server app died is started again, from its last checkpoint; one
that gets no further in `MOST_ATTEMPTS` is wound up, and ends with a reason that a person can read.
"""

import datetime as dt
import threading
import time
from collections.abc import Mapping

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sordino_protocols.errors import InputError, NotFoundError, SordinoError
from sordino_protocols.job import PURPOSES, Purpose
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent, RunState
from sordino_server.app import RUN_ID, SERVER_CONFIG
from sordino_server.bundle import build_fab
from sordino_server.config import ServerConfig
from sordino_server.coordinator import MOST_ATTEMPTS
from sordino_server.questions import FailureCause
from sordino_server.runs import RunDirectory, Runs
from sordino_server.superlink import RunStatus, SuperLink
from sordino_server.trust import live_trust

_SERVER_APP = "sordino_server.app:app"
_PURPOSES: tuple[Purpose, ...] = tuple(PURPOSES.values())
_POLL_SECONDS = 0.5  # each look costs the SuperLink a query
_IDLE_SECONDS = 1.0
_ORPHAN_SECONDS = 4.0  # from taking a run to starting its app passes a moment, on a busy machine
_ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED})


class Queue:
    """Starts runs, on a thread for each purpose."""

    def __init__(self, config: ServerConfig, superlink: SuperLink, runs: Runs) -> None:
        self._config = config
        self._superlink = superlink
        self._runs = runs
        self._submitters = live_trust(config.server.submitters)
        self._bundle = build_fab(_SERVER_APP, run_config={RUN_ID: "", SERVER_CONFIG: ""})
        self._over: set[str] = set()
        self._tried: set[str] = set()
        self._stop = threading.Event()
        self._wakes: Mapping[Purpose, threading.Event] = {
            purpose: threading.Event() for purpose in _PURPOSES
        }
        self._threads = [
            threading.Thread(target=self._work, args=(each,), name=f"queue-{each}", daemon=True)
            for each in _PURPOSES
        ]
        self._log = structlog.get_logger(component="server")

    def start(self) -> None:
        """Begin with the oldest run that is not over."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop starting runs. A running one goes on when the server comes back."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """Look at the directory now: a run was added."""
        for wake in self._wakes.values():
            wake.set()

    def _work(self, purpose: Purpose) -> None:
        while not self._stop.is_set():
            try:
                run = self._next(purpose)
                if run is None:
                    self._wakes[purpose].wait(_IDLE_SECONDS)
                    self._wakes[purpose].clear()
                else:
                    self._attempt(run)
            except (SordinoError, SQLAlchemyError, OSError) as error:
                # A full disk or a busy database must not end the queue: look again.
                self._log.exception("queue_stumbled", error=type(error).__name__)
                self._stop.wait(_IDLE_SECONDS)

    def _next(self, purpose: Purpose) -> RunDirectory | None:
        for run in self._runs.all():
            if run.run_id not in self._over and run.manifest().purpose == purpose:
                if run.state() not in TERMINAL_RUN_STATES:
                    return run
                self._over.add(run.run_id)
        return None

    def _attempt(self, run: RunDirectory) -> None:
        """Start a run's server app, and wait until it has ended."""
        self._stop_previous(run)
        if not self._is_trusted(run):
            return
        if run.run_id not in self._tried and run.attempts_in_vain() > 0:
            # Nobody saw how the last one ended: the server ended first, and no run is to blame.
            run.record("interrupted")
        self._tried.add(run.run_id)
        attempts = run.attempts_in_vain()
        # One more than that is for the app itself to tell the sites; see `Coordinator.execute`.
        if attempts > MOST_ATTEMPTS:
            reason = "the server app failed again and again: see the server's log"
            run.advance(RunEvent.GAVE_UP, reason=reason, cause=FailureCause.CRASHED.value)
            return
        settings = {RUN_ID: run.run_id, SERVER_CONFIG: str(self._config.path)}
        try:
            flower_run = self._superlink.start_run(self._bundle, settings)
        except InputError as error:
            cause = FailureCause.IMPOSSIBLE.value
            run.advance(RunEvent.GAVE_UP, reason=str(error), cause=cause)
            return
        run.record("attempt", number=attempts + 1, flower_run=str(flower_run))
        self._log.info("run_started", run_id=run.run_id, attempt=attempts + 1)
        if self._wait_ended(flower_run):
            self._superlink.drop_messages(flower_run)
            self._log.info(
                "run_ended", run_id=run.run_id, state=run.state().value, dur_s=_seconds_of(run)
            )
        elif self._stop.is_set():
            if run.state() not in TERMINAL_RUN_STATES:
                # Not the run's fault: this attempt does not count.
                run.record("interrupted")
        else:
            self._log.warning("server_app_died", run_id=run.run_id, state=run.state().value)

    def _wait_ended(self, flower_run: int) -> bool:
        """Whether an attempt came to its end: False if its process is gone, or we shall stop."""
        seen_at = time.monotonic()
        while self._superlink.run_status(flower_run) not in _ENDED:
            if not self._superlink.is_orphaned(flower_run):
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > _ORPHAN_SECONDS:
                return False
            if self._stop.wait(_POLL_SECONDS):
                return False
        return True

    def _is_trusted(self, run: RunDirectory) -> bool:
        """Whether the submitter still is; a job of one who was revoked ends before it begins."""
        submitter = run.manifest().job.submitter
        if run.state() is not RunState.QUEUED or submitter in self._submitters.keys:
            return True
        run.advance(
            RunEvent.GAVE_UP,
            reason=f"submitter {submitter!r} is trusted no more",
            cause=FailureCause.IMPOSSIBLE.value,
        )
        return False

    def _stop_previous(self, run: RunDirectory) -> None:
        """Have Flower forget an attempt that outlived the server that made it."""
        attempts = [event["flower_run"] for event in run.events() if event["event"] == "attempt"]
        if attempts:
            try:
                self._superlink.stop_run(int(str(attempts[-1])))
            except NotFoundError:
                self._log.info("run_forgotten", run_id=run.run_id)


def _seconds_of(run: RunDirectory) -> float:
    """How long ago a run was first started: through all its attempts."""
    starts = [str(entry["at"]) for entry in run.events() if entry["event"] == "attempt"]
    if not starts:
        return 0.0
    since = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(starts[0])
    return round(since.total_seconds(), 3)
