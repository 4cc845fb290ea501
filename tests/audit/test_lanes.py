"""Audits of lanes: silent on honest runs, loud on planted faults, and as strong as they say."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from lane_simulation import DELTA, Faults, claim_of, simulate, training_plan
from statistical import assert_rate

from sordino_audit.bounds.trade_off import is_rejected
from sordino_audit.e_values import SUSPECT_E_VALUE
from sordino_audit.findings import Finding, Severity, Verdict
from sordino_audit.lanes import (
    SUSPECT_ERROR,
    VIOLATION_ERROR,
    LaneAudit,
    LaneReadings,
    PreparedAudit,
    audit_lanes,
    conduct,
    prepare,
)
from sordino_audit.preregistration import POWER
from sordino_audit.readings import count_errors, pooled_scores
from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

FULL_BATCH = training_plan(noise_multiplier=8.0)
SUBSAMPLED = training_plan(sampling_rate=0.1, noise_multiplier=0.8)
LOCAL_STEPS = training_plan(sampling_rate=0.1, noise_multiplier=0.8, rounds=8, local_steps=3)
LAYERS = training_plan(noise_multiplier=8.0, groups=4)
PLANS = [FULL_BATCH, SUBSAMPLED, LOCAL_STEPS, LAYERS]


@cache
def _prepared(plan: TrainingPlan, sites: int) -> PreparedAudit:
    return prepare(plan, claim=claim_of(plan), confidence=0.95, sites=sites)


def _audit(observations: list[LaneReadings], plan: TrainingPlan) -> LaneAudit:
    return conduct(_prepared(plan, len(observations)), observations)


def _names(audit: LaneAudit) -> set[str]:
    return {finding.check for finding in audit.findings}


@pytest.mark.parametrize(("plan", "trials"), [(FULL_BATCH, 1_000), (LAYERS, 200)])
def test_honest_runs_raise_no_more_alarms_than_stated(plan: TrainingPlan, trials: int) -> None:
    rng = np.random.default_rng(7)
    audits = [_audit(simulate(plan, rng), plan) for _ in range(trials)]
    by_tests = [[each for each in audit.findings if each.check != "e-value"] for audit in audits]
    violations = sum(any(each.severity is Severity.VIOLATION for each in one) for one in by_tests)
    assert_rate(violations, trials, VIOLATION_ERROR, at_most=True)
    assert_rate(sum(map(bool, by_tests)), trials, SUSPECT_ERROR, at_most=True)
    by_evidence = sum(
        len(audit.findings) > len(one) for audit, one in zip(audits, by_tests, strict=True)
    )
    assert_rate(by_evidence, trials, 1 / SUSPECT_E_VALUE, at_most=True)
    for index in range(3):
        exceeded = sum(audit.bounds[index].epsilon_low > audit.ceiling for audit in audits)
        assert_rate(exceeded, trials, 0.05, at_most=True)
    for intervals in zip(*[(audit.noise, *audit.layers) for audit in audits], strict=True):
        covered = sum(each.low <= 1 <= each.high for each in intervals)
        assert_rate(covered, trials, 0.95)


@pytest.mark.parametrize("plan", [SUBSAMPLED, LOCAL_STEPS])
def test_honest_subsampled_runs_are_silent(plan: TrainingPlan) -> None:
    rng, trials = np.random.default_rng(8), 12
    audits = [_audit(simulate(plan, rng), plan) for _ in range(trials)]
    alarms = sum(bool(audit.findings) for audit in audits)
    assert_rate(alarms, trials, SUSPECT_ERROR, at_most=True)
    for index in range(3):
        exceeded = sum(audit.bounds[index].epsilon_low > audit.ceiling for audit in audits)
        assert_rate(exceeded, trials, 0.05, at_most=True)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("noise_ratio", [0.9, 0.7, 2**-0.5, 0.0])
def test_missing_noise_is_a_violation(plan: TrainingPlan, noise_ratio: float) -> None:
    audit = _audit(simulate(plan, np.random.default_rng(9), noise_ratio=noise_ratio), plan)
    assert audit.verdict is Verdict.VIOLATION
    assert audit.exit_code is ExitCode.AUDIT_VIOLATION
    assert "noise scale" in _names(audit)
    assert audit.noise.high < 1


@pytest.mark.parametrize("plan", PLANS)
def test_one_seed_for_all_rounds_is_a_violation(plan: TrainingPlan) -> None:
    audit = _audit(
        simulate(plan, np.random.default_rng(10), faults=Faults(reused_each_round=True)), plan
    )
    assert audit.verdict is Verdict.VIOLATION
    assert "fresh noise" in _names(audit)


@pytest.mark.parametrize("plan", PLANS)
def test_one_seed_at_all_sites_is_a_violation(plan: TrainingPlan) -> None:
    audit = _audit(
        simulate(plan, np.random.default_rng(11), faults=Faults(shared_by_sites=True)), plan
    )
    assert audit.verdict is Verdict.VIOLATION
    assert "independent sites" in _names(audit)


def test_noise_missing_in_the_last_layer_alone_is_a_violation() -> None:
    observations = simulate(LAYERS, np.random.default_rng(31), noise_ratio=(1, 1, 1, 0.0))
    audit = _audit(observations, LAYERS)
    assert audit.verdict is Verdict.VIOLATION
    (finding,) = [each for each in audit.findings if each.check == "noise scale by layer"]
    assert "layer 4" in finding.message
    assert audit.layers[3].high == 0 < audit.layers[2].low


def test_a_little_noise_missing_in_one_layer_is_found_as_stated() -> None:
    """Seen by the layer's own test, where all layers together show four times less."""
    plan = replace(LAYERS, lanes=500)
    deficit = _audit(simulate(plan, np.random.default_rng(32)), plan).detectable.in_one_layer
    ratio = (1 - 1.3 * deficit, 1, 1, 1)
    audit = _audit(simulate(plan, np.random.default_rng(33), noise_ratio=ratio), plan)
    assert "noise scale by layer" in _names(audit)


@pytest.mark.parametrize("weight", [(1, 1, 1, 2), (2, 2, 2, 2)])
def test_a_layer_left_out_of_the_norm_is_a_violation(weight: tuple[float, ...]) -> None:
    """And so is clipping each of four layers to the whole norm."""
    plan = replace(LAYERS, lanes=400)
    faults = Faults(canary_weight=weight)
    audit = _audit(simulate(plan, np.random.default_rng(34), faults=faults), plan)
    assert audit.verdict is Verdict.VIOLATION
    assert "signal by layer" in _names(audit)


def test_canaries_that_weigh_nothing_are_suspect_and_no_violation() -> None:
    """An audit that attacked nothing must not pass for one that found nothing."""
    plan = replace(FULL_BATCH, lanes=500)
    faults = Faults(canary_weight=0.0)
    audit = _audit(simulate(plan, np.random.default_rng(35), faults=faults), plan)
    assert audit.verdict is Verdict.SUSPECT
    assert _names(audit) == {"weak signal"}


def test_one_seed_for_all_layers_is_a_violation() -> None:
    faults = Faults(shared_by_layers=True)
    audit = _audit(simulate(LAYERS, np.random.default_rng(36), faults=faults), LAYERS)
    assert audit.verdict is Verdict.VIOLATION
    assert "independent layers" in _names(audit)


@pytest.mark.parametrize("plan", PLANS)
def test_a_seed_that_a_restart_brings_back_is_a_violation(plan: TrainingPlan) -> None:
    audit = _audit(simulate(plan, np.random.default_rng(37), faults=Faults(restarted=True)), plan)
    assert audit.verdict is Verdict.VIOLATION
    assert "repeated noise" in _names(audit)


@pytest.mark.parametrize("plan", PLANS)
def test_one_round_without_noise_is_a_violation(plan: TrainingPlan) -> None:
    observations = simulate(plan, np.random.default_rng(38))
    observations[1].readings[5] = 0.0
    audit = _audit(observations, plan)
    assert audit.verdict is Verdict.VIOLATION
    assert "noise scale by round" in _names(audit)


def test_other_figures_say_what_they_are_worth() -> None:
    plan = training_plan(noise_multiplier=4.0, lanes=1_000)
    audit = _audit(simulate(plan, np.random.default_rng(40)), plan)
    assert [each.standing for each in audit.comparisons] == ["bound", "credible", "convention"]
    one_run, believed, usual = (each.epsilon_low for each in audit.comparisons)
    assert 0 < one_run < audit.ceiling
    assert audit.lower_bound < believed < usual
    assert all("no bound" in each.assumption for each in audit.comparisons[1:])


def test_a_tie_is_no_evidence() -> None:
    """Lanes that all read the same: the bound by one run must not follow the coins."""
    observations = [
        replace(each, readings=np.zeros_like(each.readings))
        for each in simulate(FULL_BATCH, np.random.default_rng(41))
    ]
    assert _audit(observations, FULL_BATCH).comparisons[0].epsilon_low == 0


def test_every_planned_test_runs_once() -> None:
    plans = [FULL_BATCH, LAYERS]
    for plan in plans:
        for sites in (1, 2):
            audit = _audit(simulate(plan, np.random.default_rng(39), sites=sites), plan)
            names = [test.name for test in audit.tests]
            assert len(set(names)) == len(names)
            assert ("independent sites" in names) == (sites == 2)
            assert ("independent layers" in names) == (plan is LAYERS)


@pytest.mark.parametrize("plan", PLANS)
def test_one_draw_for_all_lanes_is_a_violation(plan: TrainingPlan) -> None:
    observations = [
        replace(each, readings=np.repeat(each.readings[..., :1], plan.lanes, axis=2))
        for each in simulate(plan, np.random.default_rng(12))
    ]
    audit = _audit(observations, plan)
    assert audit.verdict is Verdict.VIOLATION
    assert "fresh noise" in _names(audit)


@pytest.mark.parametrize("plan", PLANS)
def test_a_clipper_that_lets_too_much_through_is_a_violation(plan: TrainingPlan) -> None:
    """The noise conforms; only the membership tests can see it."""
    plan = replace(plan, lanes=400)
    audit = _audit(
        simulate(plan, np.random.default_rng(13), faults=Faults(canary_weight=3.0)), plan
    )
    assert audit.verdict is Verdict.VIOLATION
    assert {"claimed curve", "claimed curve, adaptive threshold"} & _names(audit)
    assert "noise scale" not in _names(audit)


def test_sampling_more_often_than_planned_is_a_violation() -> None:
    actual = replace(SUBSAMPLED, sampling_rate=0.5)
    audit = _audit(simulate(actual, np.random.default_rng(14)), SUBSAMPLED)
    assert audit.verdict is Verdict.VIOLATION


def test_a_claim_stricter_than_the_plan_is_a_violation() -> None:
    plan = replace(FULL_BATCH, lanes=500)
    observations = simulate(plan, np.random.default_rng(15), sites=4)
    claim = Guarantee(claim_of(plan).epsilon / 20, DELTA)
    audit = audit_lanes(observations, plan, claim=claim, confidence=0.95)
    assert audit.verdict is Verdict.VIOLATION


def test_too_much_noise_is_suspect_and_no_violation() -> None:
    audit = _audit(simulate(FULL_BATCH, np.random.default_rng(16), noise_ratio=1.3), FULL_BATCH)
    assert audit.verdict is Verdict.SUSPECT
    assert audit.exit_code is ExitCode.AUDIT_SUSPECT
    assert _names(audit) == {"surplus noise"}


def test_few_lanes_and_rounds_are_inconclusive() -> None:
    plan = training_plan(rounds=1, lanes=4)
    audit = _audit(simulate(plan, np.random.default_rng(17), sites=1), plan)
    assert audit.verdict is Verdict.INCONCLUSIVE
    assert audit.exit_code is ExitCode.AUDIT_INCONCLUSIVE
    assert audit.detectable.deficit > 0.5


@pytest.mark.parametrize(("noise_multiplier", "verdict"), [(4.0, "tight"), (40.0, "loose")])
def test_an_honest_run_is_tight_or_loose(noise_multiplier: float, verdict: str) -> None:
    plan = training_plan(noise_multiplier=noise_multiplier, lanes=500)
    audit = _audit(simulate(plan, np.random.default_rng(18), sites=4), plan)
    assert audit.verdict.value == verdict
    assert audit.exit_code is ExitCode.OK


def test_findings_from_elsewhere_join_the_verdict() -> None:
    known = Finding("coins", Severity.VIOLATION, "coins were not the committed ones")
    audit = audit_lanes(
        simulate(FULL_BATCH, np.random.default_rng(19)),
        FULL_BATCH,
        claim=claim_of(FULL_BATCH),
        confidence=0.95,
        known=[known],
    )
    assert audit.verdict is Verdict.VIOLATION
    assert known in audit.findings


def test_conformance_finds_the_stated_deficit_with_the_stated_power() -> None:
    rng, trials = np.random.default_rng(20), 150
    detectable = _audit(simulate(FULL_BATCH, rng), FULL_BATCH).detectable
    assert detectable.check == "conformance"
    audits = [
        _audit(simulate(FULL_BATCH, rng, noise_ratio=1 - detectable.deficit), FULL_BATCH)
        for _ in range(trials)
    ]
    # The number of held-out lanes is itself random, so the power is only about POWER.
    found = sum(audit.verdict is Verdict.VIOLATION for audit in audits)
    assert_rate(found, trials, POWER, at_least=True, false_failure=1e-6)
    assert_rate(found, trials, POWER + 0.08, at_most=True, false_failure=1e-6)


def test_membership_finds_the_stated_deficit_with_the_stated_power() -> None:
    """The coins are fair here, so the stated power is exact up to the split of the lanes."""
    rng, trials = np.random.default_rng(21), 400
    plan = training_plan(noise_multiplier=6.0, lanes=500)
    honest = _audit(simulate(plan, rng), plan)
    deficit = honest.detectable.by_membership
    assert 0.1 < deficit < 0.6
    prepared, error = _prepared(plan, 2), VIOLATION_ERROR / len(honest.tests)
    found = 0
    for _ in range(trials):
        observations = simulate(plan, rng, noise_ratio=1 - deficit)
        scores, coins = pooled_scores(observations, plan)
        counts = count_errors(scores, coins, prepared.fixed.curve_threshold)
        found += is_rejected(counts, prepared.claimed, error=error)
    assert_rate(found, trials, POWER, at_least=True, false_failure=1e-6)
    assert_rate(found, trials, POWER + 0.08, at_most=True, false_failure=1e-6)


def test_thresholds_do_not_depend_on_readings() -> None:
    rng = np.random.default_rng(22)
    honest = _audit(simulate(FULL_BATCH, rng), FULL_BATCH)
    broken = _audit(simulate(FULL_BATCH, rng, noise_ratio=0.5), FULL_BATCH)
    assert honest.detectable == broken.detectable
    assert honest.ceiling == broken.ceiling


@pytest.mark.parametrize("coin", [False, True])
def test_lanes_that_are_all_alike_show_nothing_and_break_nothing(*, coin: bool) -> None:
    observations = [
        replace(each, inserted=np.full(FULL_BATCH.lanes, coin))
        for each in simulate(
            FULL_BATCH, np.random.default_rng(23), faults=Faults(canary_weight=0.0)
        )
    ]
    audit = _audit(observations, FULL_BATCH)
    assert audit.lower_bound == 0.0
    assert audit.verdict is not Verdict.VIOLATION


def test_readings_that_do_not_fit_the_plan_are_refused() -> None:
    observations = simulate(FULL_BATCH, np.random.default_rng(24))
    claim = claim_of(FULL_BATCH)
    with pytest.raises(InputError, match="the plan says"):
        audit_lanes(observations, replace(FULL_BATCH, rounds=3), claim=claim, confidence=0.95)
    with pytest.raises(InputError, match="each site once"):
        audit_lanes([observations[0]] * 2, FULL_BATCH, claim=claim, confidence=0.95)
    with pytest.raises(InputError, match="at least one site"):
        audit_lanes([], FULL_BATCH, claim=claim, confidence=0.95)
    with pytest.raises(InputError, match="confidence"):
        audit_lanes(observations, FULL_BATCH, claim=claim, confidence=95)


def test_readings_must_be_finite_and_well_shaped() -> None:
    with pytest.raises(InputError, match="finite"):
        LaneReadings("north", np.array([[[np.nan]]]), np.array([True]))
    with pytest.raises(InputError, match="rounds, groups, lanes"):
        LaneReadings("north", np.zeros((2, 3)), np.array([True]))
