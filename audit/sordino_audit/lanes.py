"""The audit of canary lanes: what the server's view of a finished run says about its claim.

Every site gives each of its lanes a canary or not by a fair coin, committed before the run and
revealed after it. A canary is one more privacy unit, a record or an entity. Its clipped gradient
has exactly the clipping norm, spread evenly over its lane's coordinates, one in each parameter
group, and is zero elsewhere; it goes through the real sampler, clipper and noiser. So every lane is
one worst-case experiment on the code that ran, and lanes are independent of each other. Readings
are in units of the clipping norm of their own round, so that a norm that adapts does not show; what
is released of the model, sums or what they changed, makes no difference to a lane. What is not
checked of a plan, `audit_words` says.

Nine to twelve tests can contradict the claim (`lane_tests`). They share one error: with k tests
each is run at 1/k of it (Bonferroni), so at most 1 in 1,000 audits of a run that keeps its promise
is a `VIOLATION` by them, and at most 1 in 100 is that or `SUSPECT`. 99 and not 95 %: an audit of
every run at 95 % would ask for a repetition every twentieth time, and people would stop reading it.
E-values add findings of their own, whose errors are those of all runs together (`e_values`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.bounds.e_process import Wager, claimed_wagers
from sordino_audit.bounds.trade_off import TradeOff, guarantee_curve, strictest
from sordino_audit.comparisons import Comparison, comparisons
from sordino_audit.conformance import noise_ratio
from sordino_audit.e_values import EValue, Evidence, Weigh, judge, weigh_alone
from sordino_audit.findings import Finding, Interval, Severity, Verdict, decide
from sordino_audit.lane_bounds import Bound, assumption_free, by_noise, within_family
from sordino_audit.lane_evidence import lane_evidence
from sordino_audit.lane_tests import (
    Test,
    conformance_tests,
    count_of_tests,
    curve_test,
    split_half_test,
)
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
        e_values: the evidence of every site's lanes, over all runs that counted.
        noise: measured over claimed noise in held-out lanes.
        layers: the same for each parameter group alone.
        detectable: what this audit would have found.
        counts: errors at the threshold of the claimed-curve test.
        bound_counts: errors at the threshold of the bound that assumes the least.
        guesses: how many lanes may be guessed to be inserted, for a bound by one run.
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
    e_values: tuple[EValue, ...]
    noise: Interval
    layers: tuple[Interval, ...]
    detectable: Detectable
    counts: Counts
    bound_counts: Counts
    guesses: int
    scores_inserted: tuple[float, ...]
    scores_held_out: tuple[float, ...]
    claimed_curve: tuple[tuple[float, float], ...]
    sites: tuple[str, ...]
    plan: TrainingPlan

    @property
    def could_have_found(self) -> str:
        """What this audit would have noticed, in a sentence."""
        return self.detectable.sentence

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Other figures for epsilon, which no verdict rests on; made when they are asked for."""
        return comparisons(
            self.scores_inserted,
            self.scores_held_out,
            self.bound_counts,
            guesses=self.guesses,
            claim=self.claim,
            confidence=self.confidence,
        )

    @property
    def lower_bound(self) -> float:
        """The bound that assumes the least."""
        return self.bounds[0].epsilon_low

    @property
    def exit_code(self) -> ExitCode:
        """What the command that ran the audit ends with."""
        return self.verdict.exit_code


@dataclass(frozen=True, slots=True)
class Further:
    """What joins an audit from elsewhere.

    Attributes:
        findings: of other checks, such as a broken commitment; they count in the verdict.
        tests: as many as were announced to `prepare`; they share the error.
        evidence: for e-processes of their own.
    """

    findings: tuple[Finding, ...] = ()
    tests: tuple[Test, ...] = ()
    evidence: tuple[Evidence, ...] = ()


NOTHING = Further()


@dataclass(frozen=True, slots=True, eq=False)
class PreparedAudit:
    """All that is fixed before a reading is looked at; one serves many runs of the same plan.

    Attributes:
        plan: the plan that is claimed to run.
        claim: the guarantee that is claimed for it.
        confidence: of every bound on epsilon.
        sites: number of sites that will be observed.
        further_tests: tests of something else that will share the error.
        view: what an honest run of the plan lets the server see.
        claimed: the claimed trade-off curve: the plan's, and the claim's where it is stricter.
        wagers: the bets of the e-processes against that curve.
        fixed: thresholds, and what the audit will be able to find.
    """

    plan: TrainingPlan
    claim: Guarantee
    confidence: float
    sites: int
    further_tests: int
    view: ServerView
    claimed: TradeOff
    wagers: tuple[Wager, ...]
    fixed: Preregistration


def prepare(
    plan: TrainingPlan,
    *,
    claim: Guarantee,
    confidence: float,
    sites: int,
    further_tests: int = 0,
) -> PreparedAudit:
    """Fix an audit before the run: claimed curve, thresholds, power. Takes most of its time.

    Args:
        plan: the plan that is claimed to run.
        claim: the guarantee that is claimed for it.
        confidence: of every bound on epsilon.
        sites: number of sites that will be observed.
        further_tests: tests that `conduct` will be given to share the error with.

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
        error=VIOLATION_ERROR / (_planned_tests(plan, sites) + further_tests),
    )
    return PreparedAudit(
        plan=plan,
        claim=claim,
        confidence=confidence,
        sites=sites,
        further_tests=further_tests,
        view=view,
        claimed=claimed,
        wagers=claimed_wagers(claimed),
        fixed=fixed,
    )


def audit_lanes(
    observations: Sequence[LaneReadings],
    plan: TrainingPlan,
    *,
    claim: Guarantee,
    confidence: float,
    known: Sequence[Finding] = (),
    weigh: Weigh = weigh_alone,
) -> LaneAudit:
    """Attack a finished run through its lanes, and compare with what was claimed.

    Args:
        observations: one a site; lanes of different sites are separate experiments.
        plan: the plan that was claimed to run.
        claim: the guarantee that was claimed for it.
        confidence: of every bound on epsilon, say .95.
        known: findings from elsewhere, such as a broken commitment; they join the verdict.
        weigh: makes e-values of the evidence; `EValueStore.weigh` counts earlier runs as well.

    Returns:
        the audit; its verdict obeys the error rates in this module's docstring.

    Raises:
        InputError: no site, a site twice, or readings whose shape is not the plan's.
    """
    prepared = prepare(plan, claim=claim, confidence=confidence, sites=len(observations))
    return conduct(prepared, observations, further=Further(tuple(known)), weigh=weigh)


def conduct(
    prepared: PreparedAudit,
    observations: Sequence[LaneReadings],
    *,
    further: Further = NOTHING,
    weigh: Weigh = weigh_alone,
) -> LaneAudit:
    """Carry out a prepared audit; see `audit_lanes`.

    Args:
        prepared: what was fixed beforehand.
        observations: one a site.
        further: what joins from elsewhere.
        weigh: makes e-values of the evidence.
    """
    plan, claim, fixed = prepared.plan, prepared.claim, prepared.fixed
    _check(observations, prepared)
    scores, coins = pooled_scores(observations, plan)
    counts = count_errors(scores, coins, fixed.curve_threshold)
    held_out = np.concatenate(held_out_noise(observations, plan), axis=2)
    noise = noise_ratio(held_out, confidence=prepared.confidence)
    tests = (
        curve_test(counts, prepared.claimed),
        split_half_test(observations, plan, prepared.claimed),
        *conformance_tests(observations, plan),
        *further.tests,
    )
    if len(tests) != _planned_tests(plan, prepared.sites) + prepared.further_tests:
        raise AssertionError("the tests that ran are not the tests whose error was divided")
    e_values = weigh((*_evidence(prepared, observations), *further.evidence))
    findings = (*further.findings, *_findings(tests), *judge(e_values))
    bounds = _bounds(prepared, scores, coins, noise)
    return LaneAudit(
        verdict=_verdict(prepared, findings, bounds),
        findings=findings,
        claim=claim,
        confidence=prepared.confidence,
        bounds=bounds,
        ceiling=prepared.view.ceiling,
        tests=tests,
        e_values=e_values,
        noise=noise,
        layers=tuple(
            noise_ratio(held_out[:, group], confidence=prepared.confidence)
            for group in range(plan.lane_groups)
        ),
        detectable=fixed.detectable,
        counts=counts,
        bound_counts=count_errors(scores, coins, fixed.bound_threshold),
        guesses=fixed.guesses,
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
    expected = (prepared.plan.rounds, prepared.plan.lane_groups, prepared.plan.lanes)
    for each in observations:
        if each.readings.shape != expected:
            raise InputError(
                f"site {each.site}: readings have shape {each.readings.shape}, "
                f"the plan says {expected}"
            )


def _evidence(
    prepared: PreparedAudit, observations: Sequence[LaneReadings]
) -> tuple[Evidence, ...]:
    plan, claim = prepared.plan, prepared.claim
    return tuple(
        evidence
        for each in observations
        for evidence in lane_evidence(each, plan, claim, wagers=prepared.wagers)
    )


def _bounds(
    prepared: PreparedAudit, scores: Floats, coins: NDArray[np.bool_], noise: Interval
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


def _planned_tests(plan: TrainingPlan, sites: int) -> int:
    return count_of_tests(sites=sites, groups=plan.lane_groups)


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
