"""Start programs again that end by themselves, as systemd does in production.

For `sordino site run`, the demo, tests and benchmarks. What must stay true: a program that ends
again and again is started ever more rarely, and one that ran well for a while is started at once.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from sordino_deploy.processes import Child, Supervisor

_LOOK_SECONDS = 0.25

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long a program that ended stays away.

    Attributes:
        first_seconds: after it ended for the first time; twice as long each time that follows.
        longest_seconds: the most of it.
        good_seconds: one that ran at least so long is treated as if it ended for the first time.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    good_seconds: float = 60.0


@dataclass(slots=True)
class _Kept:
    child: Child
    start: Callable[[], Child]
    started_at: float
    pause_seconds: float
    due_at: float | None = None  # while it is away


class Keeper:
    """Keeps children of a supervisor running. Main thread only, as the supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        pauses: Pauses = Pauses(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._supervisor = supervisor
        self._pauses = pauses
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._log = structlog.get_logger(component="keeper")

    def keep(self, child: Child, start: Callable[[], Child]) -> None:
        """Start a running child again from now on, whenever it ends.

        Args:
            child: the process; another one of its name is kept no more.
            start: starts the next one of the same name.
        """
        self._kept[child.name] = _Kept(child, start, self._clock(), self._pauses.first_seconds)

    def let_go(self, name: str) -> None:
        """Keep a child no more: it may end, and stays as it is."""
        self._kept.pop(name, None)

    def child(self, name: str) -> Child:
        """The process that runs under this name, or did last."""
        return self._kept[name].child

    def look(self) -> None:
        """Note what has ended, and start what was away for long enough. Never waits.

        Raises:
            SordinoError: what a `start` raises; the others stay kept.
        """
        for kept in list(self._kept.values()):
            if kept.due_at is None and not self._supervisor.is_running(kept.child):
                self._note_ended(kept)
            if kept.due_at is not None and self._clock() >= kept.due_at:
                kept.child = kept.start()
                kept.started_at, kept.due_at = self._clock(), None

    def keep_while(self, work: Callable[[], R]) -> R:
        """Do `work` in a thread of its own, and look meanwhile; returns what it returns.

        An interrupt ends the waiting, not the thread: what it waits for has to end, as it does when
        the supervisor stops its children.

        Raises:
            BaseException: what `work` raises.
        """
        worker = _Worker(work)
        worker.thread.start()
        while not worker.is_done.wait(_LOOK_SECONDS):
            self.look()
        return worker.result()

    def _note_ended(self, kept: _Kept) -> None:
        now = self._clock()
        if now - kept.started_at >= self._pauses.good_seconds:
            kept.pause_seconds = self._pauses.first_seconds
        self._log.warning(
            "restarting",
            process=kept.child.name,
            pause_seconds=kept.pause_seconds,
            log=str(kept.child.log),
        )
        # Its group too: what it started must not meet what the next one starts.
        self._supervisor.stop(kept.child)
        kept.due_at = now + kept.pause_seconds
        kept.pause_seconds = min(2 * kept.pause_seconds, self._pauses.longest_seconds)


class _Worker(Generic[R]):
    """A thread, and what came of it."""

    def __init__(self, work: Callable[[], R]) -> None:
        self._work = work
        self._results: list[R] = []
        self._error: BaseException | None = None
        self.is_done = threading.Event()
        self.thread = threading.Thread(target=self._run, name="kept-work", daemon=True)

    def result(self) -> R:
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001  # raised again where somebody waits for it
            self._error = error
        finally:
            self.is_done.set()
