"""From what went wrong inside a site to the enum that is all the outside learns of it."""

import traceback
from pathlib import Path

from sordino_client.ledger import BudgetExhaustedError, LedgerError
from sordino_protocols.errors import AuthenticationError, IntegrityError, PeerError, SordinoError
from sordino_protocols.messages import Refusal
from sordino_protocols.wire import UnreadableError


class RefusedError(PeerError):
    """The site will not do what it was asked.

    Attributes:
        refusal: what the outside learns.
    """

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


def refusal_for(error: SordinoError) -> Refusal:
    """What may be said outside about an error."""
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
        case _:
            return Refusal.INTERNAL


def where_raised(error: Exception) -> str:
    """The kind of an error and its place in the code: its text may quote a record."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
