"""Whether a daemon can do its work: named checks, each with a reason, answered within seconds.

A check says what is so when somebody asks, not what was so at the start. What must stay true: a
check that hangs delays an answer by `CHECK_SECONDS` at most and is then one that failed; one that
hangs is not started a second time; and no library's words go into a detail, for `/readyz` is read
by strangers.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from sordino_protocols.errors import SordinoError

CHECK_SECONDS = 3.0
"""How long an answer waits for checks, all of them together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        is_ok: whether the daemon can do its work, for all that this check knows.
        detail: why, in a few words that everybody may read.
    """

    is_ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """A finding with its check's name."""

    name: str
    is_ok: bool
    detail: str


class Checks:
    """Checks by name. Threads may ask at will."""

    def __init__(
        self, checks: Mapping[str, Callable[[], Finding]], *, seconds: float = CHECK_SECONDS
    ) -> None:
        """Take the checks; none is run before somebody asks.

        Args:
            checks: each finds out anew when it is called; an error of ours is a finding.
            seconds: how long all of them together may take.
        """
        self._checks = dict(checks)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._running: dict[str, Future[Finding]] = {}

    def evaluate(self) -> tuple[Check, ...]:
        """Run every check, side by side; returns after `seconds` at the latest."""
        give_up_at = time.monotonic() + self._seconds
        futures = {name: self._future(name) for name in self._checks}
        return tuple(
            _checked(name, future, max(0.0, give_up_at - time.monotonic()))
            for name, future in futures.items()
        )

    def _future(self, name: str) -> Future[Finding]:
        """The check that is under way, or a new one."""
        with self._lock:
            running = self._running.get(name)
            if running is not None and not running.done():
                return running
            future: Future[Finding] = Future()
            self._running[name] = future
        check = self._checks[name]
        # A daemon's thread: one that hangs for ever must not keep the process from ending.
        threading.Thread(
            target=_run, args=(check, future), name=f"check-{name}", daemon=True
        ).start()
        return future


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether all of them hold."""
    return all(each.is_ok for each in checks)


def readiness(checks: Sequence[Check]) -> bytes:
    """The body of `/readyz`: `{"ready": …, "checks": {name: {"ok": …, "detail": …}}}`."""
    return json.dumps({"ready": is_ready(checks), "checks": checks_facts(checks)}).encode()


def checks_facts(checks: Sequence[Check]) -> dict[str, dict[str, object]]:
    """Checks as JSON has them: `{name: {"ok": …, "detail": …}}`."""
    return {each.name: {"ok": each.is_ok, "detail": each.detail} for each in checks}


def read_checks(facts: object) -> tuple[Check, ...]:
    """What `checks_facts` made, from a peer's JSON; whatever is no check is left out."""
    if not isinstance(facts, dict):
        return ()
    return tuple(
        Check(str(name), each["ok"] is True, str(each.get("detail", "")))
        for name, each in facts.items()
        if isinstance(each, dict) and "ok" in each
    )


def _run(check: Callable[[], Finding], future: Future[Finding]) -> None:
    found = Finding(is_ok=False, detail="failed: see the log")
    try:
        found = check()
    except SordinoError as error:
        found = Finding(is_ok=False, detail=str(error))
    except (OSError, ValueError, RuntimeError) as error:
        found = Finding(is_ok=False, detail=f"failed: {type(error).__name__}")
    finally:
        # Also of a bug, whose traceback goes to the daemon's log: the check failed, and is free.
        future.set_result(found)


def _checked(name: str, future: Future[Finding], seconds: float) -> Check:
    try:
        found = future.result(timeout=seconds)
    except TimeoutError:
        return Check(name, is_ok=False, detail="no answer in time")
    return Check(name, found.is_ok, found.detail)
