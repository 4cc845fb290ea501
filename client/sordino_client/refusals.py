"""From what went wrong inside a site to the enum that is all the outside learns of it."""

import os
import traceback
from pathlib import Path

from sordino_client.ledger import BudgetExhaustedError, LedgerError
from sordino_protocols.errors import (
    AuthenticationError,
    IntegrityError,
    PeerError,
    SordinoError,
    UnreachableError,
)
from sordino_protocols.messages import Refusal
from sordino_protocols.wire_values import UnreadableError


class RefusedError(PeerError):
    """The site will not do what it was asked.

    Attributes:
        refusal: what the outside learns.
    """

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


def refused_as(error: Exception) -> tuple[Refusal, str]:
    """What may be said outside about an error, and what the site's own log says."""
    match error:
        case SordinoError():
            return _refusal_for(error), str(error)
        case OSError():
            return Refusal.UNAVAILABLE, of_the_disk(error)
        case _:
            return Refusal.INTERNAL, _where_raised(error)


def of_the_disk(error: OSError) -> str:
    """The kind and place of an error that the operating system gave, and its words for it."""
    known = "" if error.errno is None else f": {os.strerror(error.errno)}"
    return f"{_where_raised(error)}{known}"


def _refusal_for(error: SordinoError) -> Refusal:
    match error:
        case UnreadableError() | RefusedError():
            return error.refusal
        case AuthenticationError():
            return Refusal.UNAUTHENTICATED
        case PeerError():
            return Refusal.MALFORMED
        case BudgetExhaustedError():
            return Refusal.BUDGET_EXHAUSTED
        case LedgerError():
            return Refusal.OUT_OF_ORDER
        case IntegrityError():
            return Refusal.INTEGRITY
        case UnreachableError():
            # A disk is full, a database away: nothing was lost, and it may be asked again.
            return Refusal.UNAVAILABLE
        case _:
            return Refusal.INTERNAL


def _where_raised(error: Exception) -> str:
    """The kind of an error and its place in the code: its text may quote a record."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
