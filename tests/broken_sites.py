"""Sites with a bug each, to show that whoever looks for such bugs finds them."""

import dataclasses
from collections.abc import Callable, Mapping

from watched_site import Answer, WatchedSite

from sordino_protocols.messages import Evaluation, Message, Update
from sordino_protocols.signing import TrustStore, load_public_key
from sordino_protocols.wire import open_sealed, seal


def raise_on_a_negative_round(watched: WatchedSite) -> Answer:
    """A broken site that falls over a number that no honest server sends."""

    def answer(envelope: bytes) -> bytes:
        if b'"round":-' in envelope:
            raise IndexError("planted")
        return watched.made.site.answer(envelope)

    return answer


def charge_for_another_round(watched: WatchedSite) -> Answer:
    """A broken site that lets a round leave under a number that was never charged."""

    def change(message: Message) -> Message:
        if isinstance(message, Update) and message.round == 2:
            return dataclasses.replace(message, round=3)
        return message

    return _changing(watched, change)


def make_evaluations_anew(watched: WatchedSite) -> Answer:
    """A broken site whose evaluations are other ones each time."""

    def change(message: Message) -> Message:
        if isinstance(message, Evaluation):
            return dataclasses.replace(message, histogram=message.histogram + watched.asked)
        return message

    return _changing(watched, change)


def _changing(watched: WatchedSite, change: Callable[[Message], Message]) -> Answer:
    """The right answers, changed and signed again."""
    signer = watched.signers["site"]
    key = load_public_key(watched.directory / "keys" / f"{signer.name}.pub")
    trust = TrustStore({signer.name: key})

    def answer(envelope: bytes) -> bytes:
        reply = watched.made.site.answer(envelope)
        message = open_sealed(reply, trust).message
        changed = change(message)
        return reply if changed is message else seal(changed, signer)

    return answer


PLANTED: Mapping[str, Callable[[WatchedSite], Answer]] = {
    "raises": raise_on_a_negative_round,
    "charges nothing": charge_for_another_round,
    "releases twice": make_evaluations_anew,
}
