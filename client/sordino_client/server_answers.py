"""What every answer of the server tells beside its content: that it is there, and its time.

Requests carry a signed time, and one that seems to come from the future is refused, as is one that
seems long gone. A site that is refused for its clock should know that it is its clock.
"""

import email.utils
import time
from collections.abc import Callable

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from sordino_protocols.health import Finding

AHEAD_SECONDS = 4.0
"""Flower refuses what is signed more than 5 s ahead of its own clock."""

BEHIND_SECONDS = 240.0
"""Flower refuses what was signed 305 s ago by its own clock."""

SILENCE_SECONDS = 30.0
"""A link sends a sign of life every few seconds; this long without an answer, nobody is there."""

_SPOKEN_SECONDS = 1.0  # an answer says its time in whole seconds


class ServerAnswers:
    """Looks at every answer: an interceptor for Flower's client."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._steady = steady
        self._ahead: float | None = None
        self._answered_at: float | None = None

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Pass a request on, and look at when it was answered."""
        response = call_next(context)
        self.note(response.headers.get("date", ""))
        return response

    def note(self, date: str) -> None:
        """Take in an answer and the time in it; what is no date says nothing of the clocks."""
        self._answered_at = self._steady()
        try:
            theirs = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return
        self._ahead = self._now() - theirs

    def check_presence(self) -> Finding:
        """Whether the server answers: it is asked something every few seconds."""
        if self._answered_at is None:
            return Finding(is_ok=False, detail="the server has not answered yet")
        silence = self._steady() - self._answered_at
        if silence > SILENCE_SECONDS:
            return Finding(is_ok=False, detail=f"no answer of the server for {silence:.0f} s")
        return Finding(is_ok=True, detail="the server answers")

    def check_clock(self) -> Finding:
        """Whether the server can believe what is signed here."""
        ahead = self._ahead
        if ahead is None:
            return Finding(is_ok=True, detail="the server has not said what time it is")
        if ahead > AHEAD_SECONDS + _SPOKEN_SECONDS:
            return Finding(is_ok=False, detail=f"this clock is {ahead:.0f} s ahead of the server's")
        if -ahead > BEHIND_SECONDS:
            return Finding(is_ok=False, detail=f"this clock is {-ahead:.0f} s behind the server's")
        return Finding(is_ok=True, detail="this clock and the server's agree")
