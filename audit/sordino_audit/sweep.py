"""Auditing many runs one after the other: one that cannot be audited stops no other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sordino_audit.filing import Audited
from sordino_protocols.errors import ExitCode, SordinoError

_ERROR = "error"
_WORST_FIRST = (
    ExitCode.AUDIT_VIOLATION,
    ExitCode.INTEGRITY,
    ExitCode.AUDIT_SUSPECT,
    ExitCode.ERROR,
    ExitCode.AUDIT_INCONCLUSIVE,
    ExitCode.OK,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run.

    Attributes:
        run: its id.
        verdict: of the audit, or `error`.
        exit_code: that auditing it alone would have ended with.
        message: the outcome in words, or what went wrong.
    """

    run: str
    verdict: str
    exit_code: ExitCode
    message: str


def sweep(
    runs: Iterable[str], audit: Callable[[str], Audited], *, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Audit each run, in order.

    Args:
        runs: their ids.
        audit: of one run; what it raises on purpose becomes an outcome.
        tell: called after each run.
    """
    outcomes = []
    for run in runs:
        outcome = _outcome(run, audit)
        tell(outcome)
        outcomes.append(outcome)
    return outcomes


def worst(outcomes: Sequence[Outcome]) -> ExitCode:
    """The exit code of all: a violation before all else; 1 for whatever could not be audited."""
    codes = [
        each.exit_code if each.exit_code in _WORST_FIRST else ExitCode.ERROR for each in outcomes
    ]
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.OK)


def _outcome(run: str, audit: Callable[[str], Audited]) -> Outcome:
    try:
        made = audit(run)
    except SordinoError as error:
        return Outcome(run, _ERROR, error.exit_code, str(error))
    document = made.document
    return Outcome(run, document.verdict.value, made.exit_code, document.sentence)
