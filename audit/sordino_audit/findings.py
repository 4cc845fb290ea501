"""What an audit says: findings, and the one verdict that they add up to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sordino_protocols.errors import ExitCode


class Severity(StrEnum):
    """How much a finding weighs."""

    VIOLATION = "violation"
    SUSPECT = "suspect"


class Verdict(StrEnum):
    """The outcome of an audit, worst first.

    `TIGHT` and `LOOSE` are no praise and no blame: nothing contradicts the claim, and the attack
    came close to the view's ceiling, or not. `INCONCLUSIVE` says that the audit could not have
    seen a gross fault, so that its silence means nothing.
    """

    VIOLATION = "violation"
    SUSPECT = "suspect"
    INCONCLUSIVE = "inconclusive"
    TIGHT = "tight"
    LOOSE = "loose"

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        match self:
            case Verdict.VIOLATION:
                return ExitCode.AUDIT_VIOLATION
            case Verdict.SUSPECT:
                return ExitCode.AUDIT_SUSPECT
            case Verdict.INCONCLUSIVE:
                return ExitCode.AUDIT_INCONCLUSIVE
            case Verdict.TIGHT | Verdict.LOOSE:
                return ExitCode.OK


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be, in words a privacy officer can act on.

    Attributes:
        check: the check that found it.
        severity: what it does to the verdict.
        message: one sentence.
    """

    check: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """What one probe of the code showed.

    Attributes:
        name: the probe.
        is_passed: whether what it looks for held.
        message: one sentence: what held or what did not, with the measured figure.
        seconds: CPU time that it took.
    """

    name: str
    is_passed: bool
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured quantity over its claimed value, with a confidence interval.

    Attributes:
        low: lower end of the interval; 0 without samples.
        estimate: point estimate; nan without samples.
        high: upper end; infinite without samples.
    """

    low: float
    estimate: float
    high: float


UNKNOWN = Interval(0.0, float("nan"), float("inf"))
"""What no sample says anything about."""


def decide(findings: Iterable[Finding], *, is_powerless: bool, is_tight: bool) -> Verdict:
    """The verdict: the worst finding; without one, what the silence is worth."""
    severities = {finding.severity for finding in findings}
    if Severity.VIOLATION in severities:
        return Verdict.VIOLATION
    if Severity.SUSPECT in severities:
        return Verdict.SUSPECT
    if is_powerless:
        return Verdict.INCONCLUSIVE
    return Verdict.TIGHT if is_tight else Verdict.LOOSE
