"""Sites of a federation in memory that misbehave, and what a test looks at then."""

from collections.abc import Callable

from federation import Federation

from sordino_protocols.errors import UnreachableError
from sordino_protocols.messages import Message, RoundPlan
from sordino_protocols.wire import open_sealed, seal
from sordino_server.local_grid import Answerer
from sordino_server.runs import RunDirectory

Change = Callable[[Message], Message]


class CrashError(Exception):
    """The server's process dies here."""


def asked(federation: Federation, envelope: bytes) -> Message:
    """What the server asks in an envelope."""
    sites = next(iter(federation.sites.values()))
    return open_sealed(envelope, sites.server).message


def changing(federation: Federation, name: str, kind: type[Message], change: Change) -> Answerer:
    """A site that has its key, and changes its answers of one kind."""
    site = federation.sites[name]

    def answer(envelope: bytes) -> bytes:
        reply = open_sealed(site.answer(envelope), federation.trusted_sites).message
        return seal(change(reply) if isinstance(reply, kind) else reply, site.signer)

    return answer


def away_for(federation: Federation, name: str, kind: type[Message]) -> Answerer:
    """A site that cannot be reached when it is asked this."""

    def answer(envelope: bytes) -> bytes:
        if isinstance(asked(federation, envelope), kind):
            raise UnreachableError("away")
        return federation.sites[name].answer(envelope)

    return answer


def dying_at(federation: Federation, name: str, kind: type[Message], *, after: bool) -> Answerer:
    """A site whose being asked this ends the server's process, before or after it has answered.

    Of the rounds, in the second.
    """

    def answer(envelope: bytes) -> bytes:
        message = asked(federation, envelope)
        if not isinstance(message, kind) or (isinstance(message, RoundPlan) and message.round != 2):
            return federation.sites[name].answer(envelope)
        if after:
            federation.sites[name].answer(envelope)
        raise CrashError

    return answer


def restarting(federation: Federation, name: str) -> Answerer:
    """A site that restarts after each answer, which nobody hears, and answers again."""
    site = federation.sites[name]

    def answer(envelope: bytes) -> bytes:
        site.answer(envelope)  # made, stored, and never heard of
        site.open()
        return site.answer(envelope)

    return answer


def requests(federation: Federation, name: str, kind: type[Message]) -> list[bytes]:
    """The envelopes in which a site was asked this, in order."""
    sent = federation.sites[name].requests
    return [each for each in sent if isinstance(asked(federation, each), kind)]


def rounds_of(run: RunDirectory) -> list[dict[str, object]]:
    return [event for event in run.events() if event["event"] == "round"]


def spent(federation: Federation) -> dict[str, float]:
    return {name: site.spent for name, site in federation.sites.items()}


def held(federation: Federation) -> float:
    return sum(site.held for site in federation.sites.values())
