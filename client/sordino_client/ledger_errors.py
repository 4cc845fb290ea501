"""What a ledger says no with, besides that it does not hold together."""

from sordino_protocols.errors import ExitCode, SordinoError


class BudgetExhaustedError(SordinoError):
    """A hold, or a charge after the budget was lowered, would pass the lifetime budget.

    Attributes:
        left: epsilon that is neither spent nor held.
    """

    exit_code = ExitCode.BUDGET_EXHAUSTED

    def __init__(self, lineage: str, *, left: float, limit: float) -> None:
        super().__init__(f"lineage {lineage!r} has epsilon {left:.4f} of {limit:g} left")
        self.left = left


class LedgerError(SordinoError):
    """A caller asked for something that the ledger's order does not allow."""
