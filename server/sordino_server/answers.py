"""What comes of a question to a cohort: answers, refusals, rejections, and how long it is waited.

What must stay true: an answer that does not count has a reason by name, and a person finds the
same name in the run's log, in the metrics and in `reasons`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from sordino_protocols.errors import PeerError
from sordino_protocols.messages import Refusal, Reply

R = TypeVar("R", bound=Reply)


class Rejection(StrEnum):
    """Why an answer does not count: the label of `sordino_updates_total`."""

    UNREACHABLE = "unreachable"
    FAILED = "failed"
    LATE = "late"
    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad_signature"
    REFUSED = "refused"
    BAD_SHAPE = "bad_shape"
    NONFINITE = "nonfinite"
    NORM_EXCEEDED = "norm_exceeded"
    IMPLAUSIBLE = "implausible"
    INTEGRITY = "integrity"
    WIRE_VERSION = "wire_version"
    REVOKED = "revoked"


DISHONEST = frozenset(
    {
        Rejection.MALFORMED,
        Rejection.BAD_SIGNATURE,
        Rejection.BAD_SHAPE,
        Rejection.NONFINITE,
        Rejection.NORM_EXCEEDED,
        Rejection.IMPLAUSIBLE,
        Rejection.INTEGRITY,
    }
)
"""What no honest site does whose code and disk are whole: for people to look into."""


class ImplausibleError(PeerError):
    """An answer that no honest site would give.

    Attributes:
        rejection: in what way.
    """

    def __init__(self, rejection: Rejection, reason: str) -> None:
        super().__init__(reason)
        self.rejection = rejection


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a question waits, and for how many.

    Attributes:
        quorum: answers without which the question has failed.
        deadline_seconds: from asking to giving up on those who have not answered.
        grace_seconds: from reaching the quorum to going on without the rest; a site where a person
            has yet to approve is waited for until the deadline.
    """

    quorum: int
    deadline_seconds: float
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What a cohort said.

    Attributes:
        answers: by site.
        envelopes: of the same sites, their answers exactly as they signed them.
        refusals: sites that said no, and the enum they said.
        rejections: sites whose answer did not count, and why.
        has_quorum: whether enough answered.
        duplicates: how many answers came from a site whose first one was taken already; only the
            first ever counts.
        changed: sites whose later answer was not the same bytes as the first. An honest site says
            the same bytes however often it is asked.
    """

    answers: Mapping[str, R]
    envelopes: Mapping[str, bytes]
    refusals: Mapping[str, Refusal]
    rejections: Mapping[str, Rejection]
    has_quorum: bool
    duplicates: Mapping[str, int] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
