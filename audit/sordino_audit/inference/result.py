"""The outcome of an audit of inference, and the exact interval of an advantage."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import upper_limit
from sordino_audit.bounds.ranges import require_confidence
from sordino_audit.findings import UNKNOWN, Finding, Interval, Severity, Verdict, decide
from sordino_protocols.errors import ExitCode

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

TOLERANCE = 0.05
"""Share of right guesses beyond the baseline's from which an advantage is worth a second look."""
POWERLESS_ADVANTAGE = 0.5
"""An audit that would miss this large an advantage is inconclusive."""
_POWER_QUANTILE = 1.2816
_STEPS = 1000


@dataclass(frozen=True, slots=True)
class InferenceAudit:
    """What could be inferred from a model beyond what anybody could infer without it.

    Attributes:
        kind: what was inferred: an attribute of each record, or a property of a site's data.
        target: its name.
        verdict: `LOOSE`, `SUSPECT` or `INCONCLUSIVE`; never `VIOLATION`.
        findings: empty unless the verdict is `SUSPECT`.
        advantage: share of right guesses, less the baseline's on the same targets.
        on_others: the same for records that the model never saw; unknown where not measured.
        confidence: of both intervals.
        tolerance: advantage from which the verdict is `SUSPECT`.
        right: the attack's share of right guesses.
        baseline: the baseline's.
        guesses: how many were judged.
        could_have_found: what this many could have shown, in words.
        blind_spots: what was not looked at, a sentence each.
    """

    kind: Literal["attribute", "property"]
    target: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    advantage: Interval
    on_others: Interval
    confidence: float
    tolerance: float
    right: float
    baseline: float
    guesses: int
    could_have_found: str
    blind_spots: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        return self.verdict.exit_code


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Which guesses were right, on the same targets.

    Attributes:
        attack: shape (targets,).
        baseline: of whoever never saw the model, same shape.
    """

    attack: Flags
    baseline: Flags

    def __post_init__(self) -> None:
        if self.attack.shape != self.baseline.shape or self.attack.ndim != 1:
            raise ValueError(
                f"expected one guess a target of attack and baseline, not {self.attack.shape} "
                f"and {self.baseline.shape}"
            )

    def __len__(self) -> int:
        return len(self.attack)


def advantage(guesses: Guesses, *, confidence: float) -> Interval:
    """How many more guesses of the attack are right, as a share, with an exact interval.

    Only targets that one of the two guessed right and the other wrong count. Their two shares have
    Clopper-Pearson limits, which hold together with the stated confidence (Bonferroni), so their
    difference is covered at least so often. Assumed: targets are drawn independently.

    Returns:
        the interval, within [-1, 1]; unknown without targets.

    Raises:
        ValueError: confidence outside (0, 1).
    """
    require_confidence(confidence)
    count = len(guesses)
    if count == 0:
        return UNKNOWN
    gained = int(np.sum(guesses.attack & ~guesses.baseline))
    lost = int(np.sum(guesses.baseline & ~guesses.attack))
    low, high = _difference_limits(
        np.array(float(gained)), np.array(float(lost)), count, confidence
    )
    return Interval(float(low), (gained - lost) / count, float(high))


def judge(
    kind: Literal["attribute", "property"],
    target: str,
    guesses: Guesses,
    *,
    others: Guesses | None,
    confidence: float,
    tolerance: float,
    blind_spots: tuple[str, ...],
) -> InferenceAudit:
    """The audit that these guesses amount to.

    Raises:
        ValueError: confidence outside (0, 1), or tolerance outside [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), not {tolerance}")
    measured = advantage(guesses, confidence=confidence)
    detectable = detectable_advantage(guesses, confidence=confidence, tolerance=tolerance)
    on_others = UNKNOWN if others is None else advantage(others, confidence=confidence)
    findings: tuple[Finding, ...] = ()
    if measured.low > tolerance:
        message = _message(kind, target, measured, on_others, confidence)
        findings = (Finding(f"{kind} inference", Severity.SUSPECT, message),)
    return InferenceAudit(
        kind=kind,
        target=target,
        verdict=decide(findings, is_powerless=detectable > POWERLESS_ADVANTAGE, is_tight=False),
        findings=findings,
        advantage=measured,
        on_others=on_others,
        confidence=confidence,
        tolerance=tolerance,
        right=_share(guesses.attack),
        baseline=_share(guesses.baseline),
        guesses=len(guesses),
        could_have_found=_could_have_found(len(guesses), detectable),
        blind_spots=blind_spots,
    )


def detectable_advantage(guesses: Guesses, *, confidence: float, tolerance: float) -> float:
    """About the smallest advantage that would have been found with probability .9.

    With as many targets on which only the baseline is right as there were; 1 if there is none.
    """
    count = len(guesses)
    if count == 0:
        return 1.0
    lost = int(np.sum(guesses.baseline & ~guesses.attack))
    sizes = np.linspace(0.0, 1.0, _STEPS + 1)
    rates = np.minimum(lost / count + sizes, 1.0)
    unlucky = count * rates - _POWER_QUANTILE * np.sqrt(count * rates * (1 - rates))
    gained = np.clip(np.floor(unlucky), 0, count - lost)
    low, _ = _difference_limits(gained, np.array(float(lost)), count, confidence)
    found = low > tolerance
    return float(sizes[int(np.argmax(found))]) if found.any() else 1.0


def _difference_limits(
    gained: Floats, lost: Floats, count: int, confidence: float
) -> tuple[Floats, Floats]:
    """Limits of the difference of two shares of `count`, by elements; they hold together."""
    tail = (1 - confidence) / 4
    gained_low = 1 - upper_limit(count - gained, count, tail)
    lost_low = 1 - upper_limit(count - lost, count, tail)
    return (
        gained_low - upper_limit(lost, count, tail),
        upper_limit(gained, count, tail) - lost_low,
    )


def _message(
    kind: Literal["attribute", "property"],
    target: str,
    measured: Interval,
    on_others: Interval,
    confidence: float,
) -> str:
    match kind:
        case "attribute":
            whose = f"the {target} of people in the training data"
        case "property":
            whose = f"whether {target}, of a site's data,"
    return (
        f"with the model, {whose} is guessed right in {100 * measured.estimate:.0f} of 100 cases "
        f"more than without it (in {100 * measured.low:.0f} or more with confidence "
        f"{confidence:g}); {_meaning(measured, on_others)}"
    )


def _meaning(measured: Interval, on_others: Interval) -> str:
    if on_others != UNKNOWN and on_others.high < measured.low:
        return (
            "of people whom the model never saw, clearly fewer are: it remembers its training data"
        )
    return "differential privacy does not promise against what a population has in common"


def _could_have_found(count: int, detectable: float) -> str:
    if count == 0:
        return "nothing: there was no target to guess"
    if detectable >= 1:
        return f"nothing: {count} guesses are too few"
    return (
        f"an attacker who is right in {100 * detectable:.0f} of 100 cases more than the baseline "
        f"would have been found in {count} guesses with probability 0.9"
    )


def _share(flags: Flags) -> float:
    return float(np.mean(flags)) if flags.size else math.nan
