"""Runs waiting for their turn, one Flower run each; and runs that lost their process.

The queue is the directory of runs: whatever is not in a terminal state is still to be done. What
must stay true: a run whose server app died is started again, from its last checkpoint, and given up
only after `MOST_ATTEMPTS`, with a reason that a person can read.
"""

import threading

import structlog

from sordino_protocols.errors import SordinoError
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunEvent
from sordino_server.app import RUN_DIRECTORY, SERVER_CONFIG
from sordino_server.bundle import build_fab
from sordino_server.config import ServerConfig
from sordino_server.runs import RunDirectory, Runs
from sordino_server.superlink import RunStatus, SuperLink

MOST_ATTEMPTS = 5
_SERVER_APP = "sordino_server.app:app"
_POLL_SECONDS = 0.1
_ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED})


class Queue:
    """Starts runs one after the other, on a thread of its own."""

    def __init__(self, config: ServerConfig, superlink: SuperLink, runs: Runs) -> None:
        self._config = config
        self._superlink = superlink
        self._runs = runs
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)
        self._bundle = build_fab(_SERVER_APP, run_config={RUN_DIRECTORY: "", SERVER_CONFIG: ""})
        self._log = structlog.get_logger(component="server")

    def start(self) -> None:
        """Begin with the oldest run that is not over."""
        self._thread.start()

    def stop(self) -> None:
        """Stop starting runs. A running one goes on when the server comes back."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Look at the directory now: a run was added."""
        self._wake.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            run = self._next()
            if run is None:
                self._wake.wait(_POLL_SECONDS * 10)
                self._wake.clear()
            else:
                self._bring_to_end(run)

    def _next(self) -> RunDirectory | None:
        waiting = (run for run in self._runs.all() if run.state() not in TERMINAL_RUN_STATES)
        return next(waiting, None)

    def _bring_to_end(self, run: RunDirectory) -> None:
        attempts = sum(event["event"] == "attempt" for event in run.events())
        if attempts >= MOST_ATTEMPTS:
            run.advance(RunEvent.GAVE_UP, reason="the server app failed again and again: see log")
            return
        settings = {RUN_DIRECTORY: str(run.path), SERVER_CONFIG: str(self._config.path)}
        try:
            flower_run = self._superlink.start_run(self._bundle, settings)
        except SordinoError as error:
            run.advance(RunEvent.GAVE_UP, reason=str(error))
            return
        run.record("attempt", number=attempts + 1, flower_run=str(flower_run))
        self._log.info("run_started", run_id=run.run_id, attempt=attempts + 1)
        while not self._stop.wait(_POLL_SECONDS):
            if self._superlink.run_status(flower_run) in _ENDED:
                self._log.info("run_ended", run_id=run.run_id, state=run.state().value)
                return
