"""The audit of canary lanes: what the server's view of a finished run says about its claim.

Every site gives each of its lanes a canary or not by a fair coin, committed before the run and
revealed after it. A canary is one more privacy unit, a record or an entity. Its clipped gradient is
exactly the clipping norm on its own lane and zero elsewhere, and goes through the real sampler,
clipper and noiser. So every lane is one worst-case experiment on the code that ran, and lanes are
independent of each other. Readings are in units of the clipping norm of their own round, so that a
norm that adapts does not show; what is released of the model, sums or what they changed, makes no
difference to a lane. What is not checked of a plan, `report.blind_spots` says.

Five or six tests can contradict the claim. They share one error: with k tests each is run at 1/k
of it (Bonferroni), so at most 1 in 1,000 audits of a run that keeps its promise is a `VIOLATION`,
and at most 1 in 100 is that or `SUSPECT`. 99 and not 95 %: an audit of every run at 95 % would ask
for a repetition every twentieth time, and people would stop reading it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.bounds.trade_off import TradeOff, guarantee_curve, strictest
from sordino_audit.conformance import NoiseRatio, noise_ratio
from sordino_audit.findings import Finding, Severity, Verdict, decide
from sordino_audit.lane_bounds import Bound, assumption_free, by_noise, within_family
from sordino_audit.lane_tests import Test, conformance_tests, curve_test, split_half_test
from sordino_audit.preregistration import Detectable, Preregistration, preregister
from sordino_audit.readings import LaneReadings, count_errors, held_out_noise, pooled_scores
from sordino_audit.view import ServerView, server_view
from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

__all__ = [
    "LaneAudit",
    "LaneReadings",
    "PreparedAudit",
    "audit_lanes",
    "conduct",
    "prepare",
]

Floats = NDArray[np.float64]

VIOLATION_ERROR = 0.001
"""Largest probability of calling a violation when the plan is what ran."""
SUSPECT_ERROR = 0.01
"""Largest probability of any finding when the plan is what ran."""
TIGHT_SHARE = 0.7
"""Share of the ceiling from which the attack counts as tight."""
POWERLESS_DEFICIT = 0.5
"""An audit that cannot find this much missing noise is inconclusive."""


@dataclass(frozen=True, slots=True)
class LaneAudit:
    """The result of one audit of lanes.

    Attributes:
        verdict: the outcome.
        findings: what should not be; empty unless the verdict is `VIOLATION` or `SUSPECT`.
        claim: the claimed guarantee.
        confidence: of each bound, and of the interval of the noise.
        bounds: lower bounds on epsilon at the claim's delta, weakest assumption first.
        ceiling: the largest epsilon this view could show of the training mechanism.
        tests: all tests that ran, with uncorrected p-values.
        noise: measured over claimed noise in held-out lanes.
        detectable: what this audit would have found.
        counts: errors at the threshold of the claimed-curve test.
        scores_inserted: score of every inserted lane.
        scores_held_out: score of every held-out lane.
        claimed_curve: (false positive rate, smallest allowed false negative rate), rising.
        sites: names of the sites.
        plan: what was claimed to run.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    claim: Guarantee
    confidence: float
    bounds: tuple[Bound, ...]
    ceiling: float
    tests: tuple[Test, ...]
    noise: NoiseRatio
    detectable: Detectable
    counts: Counts
    scores_inserted: tuple[float, ...]
    scores_held_out: tuple[float, ...]
    claimed_curve: tuple[tuple[float, float], ...]
    sites: tuple[str, ...]
    plan: TrainingPlan

    @property
    def lower_bound(self) -> float:
        """The bound that assumes the least."""
        return self.bounds[0].epsilon_low

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        return self.verdict.exit_code


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAudit:
    """All that is fixed before a reading is looked at; one serves many runs of the same plan.

    Attributes:
        plan: the plan that is claimed to run.
        claim: the guarantee that is claimed for it.
        confidence: of every bound on epsilon.
        sites: number of sites that will be observed.
        view: what an honest run of the plan lets the server see.
        claimed: the claimed trade-off curve: the plan's, and the claim's where it is stricter.
        fixed: thresholds, and what the audit will be able to find.
    """

    plan: TrainingPlan
    claim: Guarantee
    confidence: float
    sites: int
    view: ServerView
    claimed: TradeOff
    fixed: Preregistration


def prepare(
    plan: TrainingPlan, *, claim: Guarantee, confidence: float, sites: int
) -> PreparedAudit:
    """Fix an audit before the run: claimed curve, thresholds, power. Takes most of its time.

    Raises:
        InputError: a plan without lanes, no site, or a confidence outside [0.5, 1).
    """
    if not 0.5 <= confidence < 1:  # noqa: PLR2004
        raise InputError(f"confidence must be in [0.5, 1), not {confidence}")
    if plan.lanes < 1 or sites < 1:
        raise InputError("an audit needs at least one lane and at least one site")
    view = server_view(plan, delta=claim.delta)
    claimed = strictest(view.curve, guarantee_curve(claim))
    fixed = preregister(
        plan,
        claimed,
        claim=claim,
        lanes=plan.lanes * sites,
        confidence=confidence,
        error=VIOLATION_ERROR / _planned_tests(sites),
    )
    return PreparedAudit(plan, claim, confidence, sites, view, claimed, fixed)


def audit_lanes(
    observations: Sequence[LaneReadings],
    plan: TrainingPlan,
    *,
    claim: Guarantee,
    confidence: float,
    known: Sequence[Finding] = (),
) -> LaneAudit:
    """Attack a finished run through its lanes, and compare with what was claimed.

    Args:
        observations: one a site; lanes of different sites are separate experiments.
        plan: the plan that was claimed to run.
        claim: the guarantee that was claimed for it.
        confidence: of every bound on epsilon, say .95.
        known: findings from elsewhere, such as a broken commitment; they join the verdict.

    Returns:
        the audit; its verdict obeys the error rates in this module's docstring.

    Raises:
        InputError: no site, a site twice, or readings whose shape is not the plan's.
    """
    prepared = prepare(plan, claim=claim, confidence=confidence, sites=len(observations))
    return conduct(prepared, observations, known=known)


def conduct(
    prepared: PreparedAudit,
    observations: Sequence[LaneReadings],
    *,
    known: Sequence[Finding] = (),
) -> LaneAudit:
    """Carry out a prepared audit; see `audit_lanes`."""
    plan, claim, fixed = prepared.plan, prepared.claim, prepared.fixed
    _check(observations, prepared)
    scores, coins = pooled_scores(observations, plan)
    counts = count_errors(scores, coins, fixed.curve_threshold)
    noise = _measured_noise(observations, prepared)
    tests = (
        curve_test(counts, prepared.claimed),
        split_half_test(observations, plan, prepared.claimed),
        *conformance_tests(observations, plan),
    )
    if len(tests) != _planned_tests(prepared.sites):
        raise AssertionError("the tests that ran are not the tests whose error was divided")
    findings = (*known, *_findings(tests))
    bounds = _bounds(prepared, scores, coins, noise)
    return LaneAudit(
        verdict=_verdict(prepared, findings, bounds),
        findings=findings,
        claim=claim,
        confidence=prepared.confidence,
        bounds=bounds,
        ceiling=prepared.view.ceiling,
        tests=tests,
        noise=noise,
        detectable=fixed.detectable,
        counts=counts,
        scores_inserted=tuple(scores[coins].tolist()),
        scores_held_out=tuple(scores[~coins].tolist()),
        claimed_curve=_sample(prepared.claimed),
        sites=tuple(each.site for each in observations),
        plan=plan,
    )


def _check(observations: Sequence[LaneReadings], prepared: PreparedAudit) -> None:
    names = {each.site for each in observations}
    if len(names) != len(observations) or len(observations) != prepared.sites:
        raise InputError(f"expected readings of {prepared.sites} sites, each site once")
    expected = (prepared.plan.rounds, prepared.plan.lanes)
    for each in observations:
        if each.readings.shape != expected:
            raise InputError(
                f"site {each.site}: readings have shape {each.readings.shape}, "
                f"the plan says {expected}"
            )


def _measured_noise(observations: Sequence[LaneReadings], prepared: PreparedAudit) -> NoiseRatio:
    pooled = np.concatenate(held_out_noise(observations, prepared.plan), axis=1)
    return noise_ratio(pooled, confidence=prepared.confidence)


def _bounds(
    prepared: PreparedAudit, scores: Floats, coins: NDArray[np.bool_], noise: NoiseRatio
) -> tuple[Bound, ...]:
    plan, claim, confidence = prepared.plan, prepared.claim, prepared.confidence
    at_bound = count_errors(scores, coins, prepared.fixed.bound_threshold)
    in_family = count_errors(scores, coins, prepared.fixed.family_threshold)
    return (
        assumption_free(at_bound, claim, confidence),
        within_family(in_family, plan, claim, confidence),
        by_noise(noise, plan, claim),
    )


def _verdict(
    prepared: PreparedAudit, findings: Sequence[Finding], bounds: Sequence[Bound]
) -> Verdict:
    # The bound from the measured noise is no attack: it would make every honest run tight.
    attacked = max(bound.epsilon_low for bound in bounds[:2])
    return decide(
        findings,
        is_powerless=prepared.fixed.detectable.deficit > POWERLESS_DEFICIT,
        is_tight=attacked >= TIGHT_SHARE * prepared.view.ceiling,
    )


def _planned_tests(sites: int) -> int:
    """Two tests of the claimed curve, three of the noise, and one between sites if several."""
    return 5 if sites == 1 else 6


def _findings(tests: Sequence[Test]) -> tuple[Finding, ...]:
    found = []
    for test in tests:
        corrected = min(1.0, test.p_value * len(tests))
        if corrected <= SUSPECT_ERROR:
            is_certain = corrected <= VIOLATION_ERROR
            severity = test.worst if is_certain else Severity.SUSPECT
            message = f"{test.message} (corrected p-value {corrected:.1g})"
            found.append(Finding(test.name, severity, message))
    return tuple(found)


def _sample(claimed: TradeOff) -> tuple[tuple[float, float], ...]:
    rates = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 120)])
    return tuple(zip(rates.tolist(), claimed(rates).tolist(), strict=True))
