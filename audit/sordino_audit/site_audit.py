"""The audit that a site makes of its own run: every step, with coins that it knows.

A server sees a round's sum without knowing who was in which batch. A site knows, so its bounds come
close to the claim itself: the ceiling is what the accountant says of the training. It measures
apart what makes up the price, noise, clipping and sampling, and compares each with the plan. What
it reads, `sordino_client.witness` noted. **The result stays at the site**, as its input does: the
noise of the model's layers is measured against exact sums of records, and that is no release.

All tests of one audit share one error, as `lanes` says. Bounds rise in what they assume: nothing;
the mechanism's family; Gaussian noise in each step, composed at the claimed sampling rate and
number of steps; and the measured noise and clipping, composed the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sordino_audit.bounds import step_level
from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.comparisons import Comparison, comparisons
from sordino_audit.conformance import ratio_of_squares
from sordino_audit.e_values import EValue, Weigh, weigh_alone
from sordino_audit.findings import UNKNOWN, Finding, Interval, Severity, Verdict, decide
from sordino_audit.lane_bounds import Bound
from sordino_audit.lane_tests import Test
from sordino_audit.lanes import (
    POWERLESS_DEFICIT,
    TIGHT_SHARE,
    VIOLATION_ERROR,
    Further,
    LaneAudit,
    PreparedAudit,
    conduct,
    prepare,
)
from sordino_audit.preregistration import Detectable
from sordino_audit.sampled_batches import sampling_ratio
from sordino_audit.step_tests import STEP_TESTS, detectable_by_step, step_evidence, step_tests
from sordino_audit.step_view import StepReadings, plan_of_steps, step_readings
from sordino_audit.view import server_view
from sordino_client.admitted import AdmittedRuns
from sordino_client.config import SiteConfig
from sordino_client.outbox import Outbox
from sordino_client.run_steps import round_step
from sordino_client.witness import RoundSeen, noted_rounds, read_witness
from sordino_protocols.errors import ExitCode, InputError, NotFoundError
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

_STEP_FAMILY = "Gaussian noise of unknown scale, the same in every step; sampling as planned"
_MEASURED = "Gaussian noise, sampling as planned; noise and clipping as measured"
_ATTACKS = 3
"""The first so many bounds are attacks; the last one measures the noise, and is always tight."""


@dataclass(frozen=True, slots=True, eq=False)
class ObservedRun:
    """A run as the site that takes part in it knows it.

    Attributes:
        run_id: the run.
        site: the site's name.
        plan: what is claimed to run.
        claim: the guarantee that is claimed for it.
        inserted: which lanes have a canary, shape (lanes,).
    """

    run_id: str
    site: str
    plan: TrainingPlan
    claim: Guarantee
    inserted: NDArray[np.bool_]

    def __repr__(self) -> str:
        """Without the coins, which may still be secret."""
        return f"ObservedRun(run_id={self.run_id!r}, site={self.site!r})"


@dataclass(frozen=True, slots=True)
class SiteAudit:
    """The result of a site's audit of one of its runs.

    Attributes:
        verdict: the outcome.
        findings: what should not be; empty unless the verdict is `VIOLATION` or `SUSPECT`.
        claim: the claimed guarantee.
        confidence: of each bound and of each interval.
        bounds: lower bounds on epsilon at the claim's delta, weakest assumption first.
        ceiling: the epsilon of the training as it was planned.
        tests: all tests that ran, with uncorrected p-values.
        e_values: the evidence of the site's lanes, over all runs that counted.
        noise: measured over claimed noise in held-out lanes.
        clipping: measured weight of a sampled canary over the clipping norm.
        sampling: measured over claimed sampling rate.
        layers: measured over claimed noise of each layer of the model.
        detectable: what this audit would have found.
        counts: errors of guessing from a single step whether a canary was in its batch.
        bound_counts: errors over all steps, at the threshold of the bound that assumes the least.
        guesses: how many lanes may be guessed to be inserted, for a bound by one run.
        scores_inserted: score of every inserted lane, over all steps.
        scores_held_out: score of every held-out lane.
        claimed_curve: (false positive rate, smallest allowed false negative rate) of all steps.
        site: the site's name.
        run_id: the run.
        plan: what was claimed to run.
        rounds_seen: how many rounds were noted.
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
    clipping: Interval
    sampling: Interval
    layers: tuple[Interval, ...]
    detectable: Detectable
    counts: Counts
    bound_counts: Counts
    guesses: int
    scores_inserted: tuple[float, ...]
    scores_held_out: tuple[float, ...]
    claimed_curve: tuple[tuple[float, float], ...]
    site: str
    run_id: str
    plan: TrainingPlan
    rounds_seen: int

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


def audit_site_run(
    config: SiteConfig, run_id: str, *, confidence: float, weigh: Weigh = weigh_alone
) -> SiteAudit:
    """Audit a run at the site that took part in it, from the site's own files.

    Args:
        config: the site's.
        run_id: a run that the site admitted.
        confidence: of every bound and interval.
        weigh: makes e-values of the evidence; `EValueStore.weigh` counts earlier runs as well.

    Raises:
        NotFoundError: the site never admitted this run, or has noted none of its steps.
        InputError: the run carried no lanes, or the confidence is outside [0.5, 1).
        IntegrityError: a file of the run does not hold together.
    """
    run = AdmittedRuns(config.site.state / "runs").get(run_id)
    if run is None:
        raise NotFoundError(f"site {config.site.name} never took part in run {run_id}")
    plan = run.job.plan.require_training()
    if plan.lanes < 1:
        raise InputError(f"run {run_id} carried no canary lanes; set audit.lanes in the job")
    rounds = read_witness(config.witness_path, run_id)
    if not rounds:
        raise NotFoundError(f"site {config.site.name} noted no step of run {run_id}")
    released = Outbox(config.site.state / "outbox").releases(run_id)
    observed = ObservedRun(
        run_id, config.site.name, plan, run.job.file.guarantee, inserted=run.coins
    )
    return audit_steps(
        rounds,
        observed,
        confidence=confidence,
        known=_unnoted(rounds, released, plan),
        weigh=weigh,
    )


def audit_steps(
    rounds: Sequence[RoundSeen],
    run: ObservedRun,
    *,
    confidence: float,
    known: Sequence[Finding] = (),
    weigh: Weigh = weigh_alone,
) -> SiteAudit:
    """Attack a run through the steps that the site noted, and compare with what was claimed.

    Args:
        rounds: what was noted, at least one round.
        run: the run, with its coins.
        confidence: of every bound and interval.
        known: findings from elsewhere; they join the verdict.
        weigh: makes e-values of the evidence.

    Raises:
        InputError: the confidence is outside [0.5, 1).
        IntegrityError: what was noted does not fit the run.
    """
    plan, claim = run.plan, run.claim
    seen = step_readings(rounds, run.inserted, plan, site=run.site)
    planned = plan_of_steps(plan, len(seen.sampled))
    prepared = prepare(
        planned, claim=claim, confidence=confidence, sites=1, further_tests=STEP_TESTS
    )
    threshold = _threshold(planned, confidence)
    counts = seen.counts(threshold)
    further = Further(
        findings=tuple(known),
        tests=step_tests(seen, counts, planned),
        evidence=(step_evidence(seen, planned, claim),),
    )
    lanes = conduct(prepared, [seen.lanes], further=further, weigh=weigh)
    detectable = _detectable(lanes, planned, threshold)
    clipping = _clipping(seen, lanes.noise, plan, confidence)
    bounds = _bounds(lanes, counts, clipping, plan)
    ceiling = _ceiling(prepared, plan)
    attacked = max(bound.epsilon_low for bound in bounds[:_ATTACKS])
    return SiteAudit(
        verdict=decide(
            lanes.findings,
            is_powerless=detectable.deficit > POWERLESS_DEFICIT,
            is_tight=attacked >= TIGHT_SHARE * ceiling,
        ),
        findings=lanes.findings,
        claim=claim,
        confidence=confidence,
        bounds=bounds,
        ceiling=ceiling,
        tests=lanes.tests,
        e_values=lanes.e_values,
        noise=lanes.noise,
        clipping=clipping,
        sampling=sampling_ratio(
            seen.sampled_inserted, rate=plan.sampling_rate, confidence=confidence
        ),
        layers=_layers(seen, confidence),
        detectable=detectable,
        counts=counts,
        bound_counts=lanes.bound_counts,
        guesses=lanes.guesses,
        scores_inserted=lanes.scores_inserted,
        scores_held_out=lanes.scores_held_out,
        claimed_curve=lanes.claimed_curve,
        site=run.site,
        run_id=run.run_id,
        plan=plan,
        rounds_seen=len(rounds),
    )


def _steps(plan: TrainingPlan) -> int:
    return plan.rounds * plan.local_steps


def _ceiling(prepared: PreparedAudit, plan: TrainingPlan) -> float:
    """The epsilon of all planned steps, whether they were all noted or not."""
    whole = plan_of_steps(plan, _steps(plan))
    if whole == prepared.plan:
        return prepared.view.ceiling
    return server_view(whole, delta=prepared.claim.delta).ceiling


def _detectable(lanes: LaneAudit, planned: TrainingPlan, threshold: float) -> Detectable:
    by_step = detectable_by_step(planned, threshold, error=VIOLATION_ERROR / len(lanes.tests))
    known = lanes.detectable
    return replace(known, by_membership=min(known.by_membership, by_step))


def _threshold(planned: TrainingPlan, confidence: float) -> float:
    """Of a step's reading; by what half the lanes are expected to show."""
    readings = planned.lanes * planned.rounds / 2
    return step_level.planned_threshold(
        noise_multiplier=planned.noise_multiplier,
        inserted=readings * planned.sampling_rate,
        held_out=readings,
        confidence=confidence,
    )


def _clipping(
    seen: StepReadings, noise: Interval, plan: TrainingPlan, confidence: float
) -> Interval:
    """The weight of a sampled canary, by the mean of what all read.

    The noise around the mean is taken at the upper end of its own interval, so that this interval
    and that one hold together with twice their error.
    """
    canaries = seen.canaries.sum(axis=1) / math.sqrt(plan.lane_groups)
    if canaries.size == 0 or not math.isfinite(noise.high):
        return UNKNOWN
    error = noise.high * plan.noise_multiplier / math.sqrt(canaries.size)
    reach = -float(ndtri((1 - confidence) / 2)) * error
    mean = float(canaries.mean())
    return Interval(max(0.0, mean - reach), mean, mean + reach)


def _bounds(
    lanes: LaneAudit, counts: Counts, clipping: Interval, plan: TrainingPlan
) -> tuple[Bound, ...]:
    steps, delta = _steps(plan), lanes.claim.delta
    by_step = step_level.epsilon_lower_bound(
        counts,
        sampling_rate=plan.sampling_rate,
        steps=steps,
        delta=delta,
        confidence=lanes.confidence,
    )
    # Each end is exceeded with half the error, as both intervals are two-sided.
    mu = clipping.low / (lanes.noise.high * plan.noise_multiplier)
    measured = step_level.epsilon_from_step_mu(
        mu, sampling_rate=plan.sampling_rate, steps=steps, delta=delta
    )
    return (
        *lanes.bounds[:2],
        Bound("step by step", _STEP_FAMILY, by_step),
        Bound("measured noise and clipping", _MEASURED, measured),
    )


def _layers(seen: StepReadings, confidence: float) -> tuple[Interval, ...]:
    squares = seen.squares.sum(axis=0)
    counts = seen.coordinates * len(seen.squares)
    return tuple(
        ratio_of_squares(float(each), int(count), confidence=confidence)
        for each, count in zip(squares, counts, strict=True)
    )


def _unnoted(
    rounds: Sequence[RoundSeen], released: Sequence[str], plan: TrainingPlan
) -> tuple[Finding, ...]:
    """A finding if a round left the site that should have been noted and was not."""
    noted, left = {each.round for each in rounds}, set(released)
    missing = [
        number
        for number in range(1, noted_rounds(plan) + 1)
        if number not in noted and round_step(number) in left
    ]
    if not missing:
        return ()
    message = f"{len(missing)} rounds left the site without a note, the first being {missing[0]}"
    return (Finding("witness", Severity.SUSPECT, message),)
