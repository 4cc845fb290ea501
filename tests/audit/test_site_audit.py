"""A site's audit of its own steps: silent on the real engine, loud on planted faults."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from lane_simulation import DELTA
from statistical import assert_rate
from step_simulation import (
    ONE_LAYER,
    TWO_LAYERS,
    Observed,
    observe,
    quieter,
    sampled_anew,
    steps_of,
    with_steps,
)

from sordino_audit.findings import Finding, Severity, Verdict
from sordino_audit.lanes import SUSPECT_ERROR
from sordino_audit.site_audit import SiteAudit, audit_steps
from sordino_protocols.errors import ExitCode, InputError, IntegrityError
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

PLANS = [ONE_LAYER, TWO_LAYERS]


@cache
def _honest(plan: TrainingPlan, seed: int = 1) -> Observed:
    return observe(plan, seed=seed)


def _audit(observed: Observed, confidence: float = 0.95) -> SiteAudit:
    return audit_steps(observed.rounds, observed.run, confidence=confidence)


def _names(audit: SiteAudit) -> set[str]:
    return {finding.check for finding in audit.findings}


def test_the_real_engine_raises_no_more_alarms_than_stated() -> None:
    trials = 8
    audits = [_audit(_honest(PLANS[seed % 2], seed)) for seed in range(trials)]
    assert_rate(sum(bool(audit.findings) for audit in audits), trials, SUSPECT_ERROR, at_most=True)
    for index in range(4):
        exceeded = sum(audit.bounds[index].epsilon_low > audit.ceiling for audit in audits)
        assert_rate(exceeded, trials, 0.05, at_most=True)
    for audit in audits:
        assert audit.rounds_seen == audit.plan.rounds
        assert len(audit.layers) == audit.plan.lane_groups
        assert {each.test for each in audit.e_values} == {
            "membership",
            "noise scale",
            "single steps",
        }


@pytest.mark.parametrize("plan", PLANS)
def test_a_site_measures_what_makes_up_the_price(plan: TrainingPlan) -> None:
    audit = _audit(_honest(plan), confidence=0.9999)
    for interval in (audit.noise, audit.clipping, audit.sampling, *audit.layers):
        assert interval.low <= 1 <= interval.high
    assert audit.noise.high - audit.noise.low < 0.2
    assert audit.ceiling == pytest.approx(audit.claim.epsilon, rel=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_steps_show_far_more_than_the_run_does(plan: TrainingPlan) -> None:
    audit = _audit(_honest(plan))
    free, family, by_step, measured = (bound.epsilon_low for bound in audit.bounds)
    assert audit.exit_code is ExitCode.OK
    assert free < family < min(by_step, measured)
    assert 0.6 * audit.ceiling < by_step < audit.ceiling
    assert audit.verdict is (Verdict.TIGHT if by_step >= 0.7 * audit.ceiling else Verdict.LOOSE)
    assert audit.detectable.by_membership < 0.3


@pytest.mark.parametrize("ratio", [0.9, 2**-0.5, 0.0])
@pytest.mark.parametrize("plan", PLANS)
def test_too_little_noise_is_a_violation(plan: TrainingPlan, ratio: float) -> None:
    actual = replace(plan, noise_multiplier=max(plan.noise_multiplier * ratio, 1e-3))
    audit = _audit(observe(plan, actual=actual))
    assert audit.verdict is Verdict.VIOLATION
    assert audit.exit_code is ExitCode.AUDIT_VIOLATION
    assert {"noise scale", "noise of the model by layer"} <= _names(audit)


def test_noise_missing_in_one_layer_of_the_model_is_a_violation() -> None:
    """Lanes do not show it where the layer's noise alone is wrong."""
    honest = _honest(TWO_LAYERS)
    quiet = with_steps(honest, [quieter(step, layer=1, ratio=0.7) for step in steps_of(honest)])
    audit = _audit(quiet)
    assert audit.verdict is Verdict.VIOLATION
    assert _names(audit) == {"noise of the model by layer"}
    assert audit.layers[1].high < 1 < audit.layers[0].high


def test_one_step_without_noise_is_a_violation() -> None:
    honest = _honest(TWO_LAYERS)
    steps = steps_of(honest)
    steps[7] = quieter(steps[7], layer=0, ratio=0.0)
    audit = _audit(with_steps(honest, steps))
    assert audit.verdict is Verdict.VIOLATION
    assert "noise of the model by step" in _names(audit)


def test_surplus_noise_is_suspect() -> None:
    honest = _honest(ONE_LAYER)
    audit = _audit(
        with_steps(honest, [quieter(step, layer=0, ratio=1.5) for step in steps_of(honest)])
    )
    assert audit.verdict is Verdict.SUSPECT
    assert _names(audit) == {"surplus noise of the model"}


def test_a_clip_that_lets_too_much_through_is_a_violation() -> None:
    honest = _honest(TWO_LAYERS)
    excess = 0.3 / np.sqrt(2)
    heavy = [
        replace(step, readings=(step.readings + excess * step.sampled).astype(np.float32))
        for step in steps_of(honest)
    ]
    audit = _audit(with_steps(honest, heavy))
    assert audit.verdict is Verdict.VIOLATION
    assert "clipping by layer" in _names(audit)
    assert audit.clipping.low > 1


@pytest.mark.parametrize(("rate", "verdict"), [(0.15, "violation"), (0.07, "suspect")])
def test_another_sampling_rate_is_found(rate: float, verdict: str) -> None:
    audit = _audit(observe(ONE_LAYER, actual=replace(ONE_LAYER, sampling_rate=rate)))
    assert audit.verdict.value == verdict
    assert not audit.sampling.low <= 1 <= audit.sampling.high


def test_shuffling_that_is_accounted_as_coins_is_a_violation() -> None:
    """Everybody takes a turn in every ten steps: as often as planned, and too evenly."""
    honest, rng = _honest(ONE_LAYER), np.random.default_rng(5)
    inserted = np.flatnonzero(honest.run.inserted)
    shuffled = []
    for index, step in enumerate(steps_of(honest)):
        if index % 10 == 0:
            turns = rng.permutation(inserted)
        sampled = np.zeros(ONE_LAYER.lanes, dtype=np.bool_)
        sampled[turns[index % 10 :: 10]] = True
        shuffled.append(sampled_anew(step, sampled, ONE_LAYER))
    audit = _audit(with_steps(honest, shuffled))
    assert audit.verdict is Verdict.VIOLATION
    assert "independent sampling" in _names(audit)


def test_the_same_batch_in_every_step_is_a_violation() -> None:
    honest = _honest(ONE_LAYER)
    steps = steps_of(honest)
    first = steps[0].sampled
    audit = _audit(with_steps(honest, [sampled_anew(each, first, ONE_LAYER) for each in steps]))
    assert audit.verdict is Verdict.VIOLATION
    assert "independent sampling" in _names(audit)


def test_a_claim_stricter_than_what_ran_is_a_violation() -> None:
    honest = _honest(ONE_LAYER)
    run = replace(honest.run, plan=replace(ONE_LAYER, noise_multiplier=1.3))
    audit = audit_steps(honest.rounds, run, confidence=0.95)
    assert audit.verdict is Verdict.VIOLATION
    assert "claimed curve of a step" in _names(audit)


def test_missing_rounds_leave_the_bound_on_the_whole_run() -> None:
    honest = _honest(ONE_LAYER)
    part = replace(honest, rounds=honest.rounds[:4])
    audit = _audit(part)
    assert audit.rounds_seen == 4
    assert audit.ceiling == pytest.approx(_audit(honest).ceiling)


def test_findings_from_elsewhere_join_the_verdict() -> None:
    honest = _honest(ONE_LAYER)
    known = Finding("witness", Severity.SUSPECT, "a round left the site without a note")
    audit = audit_steps(honest.rounds, honest.run, confidence=0.95, known=[known])
    assert audit.verdict is Verdict.SUSPECT
    assert known in audit.findings


def test_notes_that_do_not_fit_the_run_are_refused() -> None:
    honest = _honest(ONE_LAYER)
    with pytest.raises(IntegrityError, match="5 steps"):
        audit_steps([], honest.run, confidence=0.95)
    wide = replace(honest.run, plan=TWO_LAYERS)
    with pytest.raises(IntegrityError, match="shape"):
        audit_steps(honest.rounds, wide, confidence=0.95)
    nobody = replace(honest.run, inserted=np.zeros(ONE_LAYER.lanes, dtype=np.bool_))
    with pytest.raises(IntegrityError, match="lane that has none"):
        audit_steps(honest.rounds, nobody, confidence=0.95)
    with pytest.raises(InputError, match="confidence"):
        audit_steps(honest.rounds, honest.run, confidence=95)


def test_a_full_batch_is_audited_as_well() -> None:
    plan = replace(ONE_LAYER, sampling_rate=1.0, noise_multiplier=3.0)
    observed = observe(plan)
    audit = _audit(observed)
    assert not audit.findings
    assert 0.6 * audit.ceiling < audit.bounds[2].epsilon_low < audit.ceiling
    assert audit.sampling.estimate == 1


def test_nothing_of_what_was_seen_is_in_a_text() -> None:
    honest = _honest(ONE_LAYER)
    assert "inserted" not in repr(honest.run)
    assert Guarantee(1.0, DELTA) != honest.run.claim
