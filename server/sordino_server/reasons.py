"""Why a site's answer does not count, in words for whoever reads a run's log.

Every refusal and every rejection has a sentence; the name comes first, because logs, metrics
and documents use it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sordino_protocols.refusals import REFUSAL_WORDS

_FOUND: Mapping[str, str] = MappingProxyType(
    {
        "unreachable": "it is not connected",
        "failed": "it could not answer; its own log says why",
        "late": "no answer came in time: it hangs, or is slow",
        "malformed": "what was said is not of this protocol",
        "bad_signature": "it is not signed by this site",
        "refused": "it refused",
        "bad_shape": "a vector has another length",
        "nonfinite": "it has values that are not finite numbers",
        "norm_exceeded": "it is longer than clipping and noise can make it",
        "implausible": "no honest site can say this",
        "integrity": "its ledger lost entries or shows another history; an admin must recover it",
        "wire_version": "its version of this software is too old, or too new",
        "revoked": "it is not trusted any more",
    }
)
"""What the server found; a name that sites use too means here what the server means by it."""

_SAID: Mapping[str, str] = MappingProxyType(
    {refusal.value: words for refusal, words in REFUSAL_WORDS.items()}
)


def explain(why: str) -> str:
    """The name of a refusal or a rejection, and what it means; an unknown name alone."""
    words = _FOUND.get(why, _SAID.get(why))
    return why if words is None else f"{why}, {words}"
