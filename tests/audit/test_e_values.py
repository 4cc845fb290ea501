"""Evidence across runs: valid for ever, strong where something is wrong, kept without loss."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lane_simulation import DELTA, NONE, Faults, claim_of, simulate, training_plan
from statistical import assert_rate

from sordino_audit import noise_process
from sordino_audit.bounds.e_process import claimed_wagers
from sordino_audit.bounds.trade_off import gaussian_curve
from sordino_audit.e_value_store import EValueStore
from sordino_audit.e_values import (
    SUSPECT_E_VALUE,
    EValue,
    Evidence,
    History,
    NoiseEvidence,
    PairEvidence,
    configuration_of,
    counted,
    e_value,
    judge,
    pairs_of,
    weigh_alone,
)
from sordino_audit.findings import Severity
from sordino_audit.lane_evidence import lane_evidence
from sordino_audit.noise_process import RATIOS, NoiseProcess
from sordino_protocols.errors import IntegrityError
from sordino_protocols.privacy import Guarantee

PLAN = training_plan(noise_multiplier=4.0, rounds=5, lanes=60)
CLAIM = claim_of(PLAN)
WAGERS = claimed_wagers(gaussian_curve(np.sqrt(PLAN.rounds) / PLAN.noise_multiplier))


def _run(
    rng: np.random.Generator, *, sites: int = 1, noise_ratio: float = 1.0, faults: Faults = NONE
) -> list[Evidence]:
    observations = simulate(PLAN, rng, sites=sites, noise_ratio=noise_ratio, faults=faults)
    return [
        evidence
        for each in observations
        for evidence in lane_evidence(each, PLAN, CLAIM, wagers=WAGERS)
    ]


def _count(histories: list[History], evidence: list[Evidence], number: int) -> list[History]:
    known: list[History | None] = [*histories] if histories else [None] * len(evidence)
    return [
        counted(history, each, run_id=str(number))
        for history, each in zip(known, evidence, strict=True)
    ]


def _value(site: str, value: float, test: str = "membership") -> EValue:
    return EValue(site, test, float(np.log(value)), 10, (float(np.log(value)),))


# --- validity -----------------------------------------------------------------------------------


def test_honest_runs_are_hardly_ever_suspected_in_all_their_life() -> None:
    """Looked at after each of 12 runs: the largest of all looks keeps the promise (Ville)."""
    rng, trials, runs = np.random.default_rng(1), 400, 12
    suspected = 0
    for _ in range(trials):
        histories, highest = list[History](), -np.inf
        for number in range(runs):
            evidence = _run(rng)
            histories = _count(histories, evidence, number)
            values = [e_value(a, b).value for a, b in zip(evidence, histories, strict=True)]
            highest = max(highest, float(np.mean(values)))
        suspected += highest >= SUSPECT_E_VALUE
    assert_rate(suspected, trials, 1 / SUSPECT_E_VALUE, at_most=True)


def test_a_noise_process_is_expected_to_stay_at_one() -> None:
    """Exact for each bet: E[r^-n exp(-S (r^-2 - 1) / 2)] = 1 for S chi-square of n."""
    readings = 6
    grid = np.linspace(1e-6, 400, 400_001)
    density = grid ** (readings / 2 - 1) * np.exp(-grid / 2) / 16
    capitals = np.array(
        [
            noise_process.update(NoiseProcess(), squares=float(s), readings=readings).log_capitals
            for s in grid[::2000]
        ]
    )
    for column, ratio in zip(capitals.T, RATIOS, strict=True):
        exact = -readings * np.log(ratio) - grid[::2000] * (ratio**-2 - 1) / 2
        assert column == pytest.approx(exact)
        gains = np.exp(-readings * np.log(ratio) - grid * (ratio**-2 - 1) / 2)
        assert np.trapezoid(density * gains, grid) == pytest.approx(1, abs=1e-3)


def test_more_noise_than_claimed_is_no_evidence() -> None:
    process = noise_process.update(NoiseProcess(), squares=1.3 * 5_000, readings=5_000)
    assert process.log_value < -4


# --- power --------------------------------------------------------------------------------------


def test_a_little_missing_noise_adds_up_over_runs() -> None:
    """No single run shows 4 % of missing noise; sixty of them do."""
    rng = np.random.default_rng(2)
    alone = [judge(weigh_alone(_run(rng, noise_ratio=0.96))) for _ in range(5)]
    assert not any(each.severity is Severity.VIOLATION for one in alone for each in one)
    histories: list[History] = []
    for number in range(60):
        evidence = _run(rng, noise_ratio=0.96)
        histories = _count(histories, evidence, number)
    (finding,) = judge([e_value(a, b) for a, b in zip(evidence, histories, strict=True)])
    assert finding.severity is Severity.VIOLATION


def test_canaries_that_weigh_too_much_are_found_by_their_pairs() -> None:
    rng, histories = np.random.default_rng(3), list[History]()
    for number in range(20):
        evidence = _run(rng, faults=Faults(canary_weight=3.0))
        histories = _count(histories, evidence, number)
    pairs, noise = (e_value(a, b) for a, b in zip(evidence, histories, strict=True))
    assert pairs.test == "membership"
    assert pairs.value > 1000 > noise.value
    assert len(pairs.history) == 20
    assert pairs.history[-1] == pairs.log_value


# --- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "severity"), [(19.9, None), (20.1, "suspect"), (999, "suspect"), (1001, "violation")]
)
def test_one_site_is_judged_at_20_and_1000(value: float, severity: str | None) -> None:
    findings = judge([_value("north", value)])
    assert [each.severity.value for each in findings] == ([severity] if severity else [])


def test_the_mean_of_a_sites_tests_counts() -> None:
    assert not judge([_value("north", 30), _value("north", 1, test="noise scale")])
    (finding,) = judge([_value("north", 90), _value("north", 1, test="noise scale")])
    assert finding.severity is Severity.SUSPECT
    assert "4 times the lanes" in finding.message


def test_across_sites_the_false_discovery_rate_counts() -> None:
    """One site of ten needs ten times the evidence; ten of ten need no more than one alone."""
    honest = [_value(f"site-{number}", 1) for number in range(9)]
    assert not judge([*honest, _value("north", 190)])
    (finding,) = judge([*honest, _value("north", 210)])
    assert "north" in finding.message
    assert len(judge([_value(f"site-{number}", 21) for number in range(10)])) == 10
    assert judge([]) == ()


def test_an_overwhelming_value_reads_well() -> None:
    (finding,) = judge([EValue("north", "membership", 5_000.0, 10, (5_000.0,))])
    assert "more than 1,000,000" in finding.message
    assert finding.severity is Severity.VIOLATION


# --- pairs and configurations -------------------------------------------------------------------


def test_pairs_follow_the_order_of_lanes() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    inserted, held_out = pairs_of(scores, np.array([True, False, False, True, True]))
    assert inserted.tolist() == [0.0, 3.0]
    assert held_out.tolist() == [1.0, 2.0]


def test_whatever_is_claimed_is_in_the_configuration() -> None:
    plans = [PLAN, replace(PLAN, noise_multiplier=4.01), replace(PLAN, lanes=61)]
    hashes = {configuration_of(plan, CLAIM, view="rounds") for plan in plans}
    hashes.add(configuration_of(PLAN, Guarantee(1.0, DELTA), view="rounds"))
    hashes.add(configuration_of(PLAN, CLAIM, view="steps"))
    assert len(hashes) == 5
    assert configuration_of(PLAN, CLAIM, view="rounds") in hashes


# --- the file -----------------------------------------------------------------------------------


def test_a_store_counts_all_runs_and_survives_a_restart(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(4), tmp_path / "e-values.json"
    runs = [_run(rng, sites=2) for _ in range(3)]
    for number, evidence in enumerate(runs):
        found = EValueStore(path).weigh(f"run-{number}")(evidence)
    for site_and_test, each in enumerate(found):
        history = None
        for number, evidence in enumerate(runs):
            history = counted(history, evidence[site_and_test], run_id=f"run-{number}")
        assert history is not None
        assert each == e_value(runs[0][site_and_test], history)
        assert len(each.history) == 3


def test_a_run_counts_once(tmp_path: Path) -> None:
    store, evidence = EValueStore(tmp_path / "e-values.json"), _run(np.random.default_rng(5))
    first = store.weigh("run-1")(evidence)
    assert store.weigh("run-1")(evidence) == first
    assert store.weigh("run-2")(evidence) != first


def test_another_configuration_starts_anew(tmp_path: Path) -> None:
    store, evidence = EValueStore(tmp_path / "e-values.json"), _run(np.random.default_rng(6))
    store.weigh("run-1")(evidence)
    changed = [replace(each, configuration="other") for each in evidence]
    assert store.weigh("run-2")(changed) == weigh_alone(changed)
    assert all(len(each.history) == 2 for each in store.weigh("run-3")(evidence))


def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    path, evidence = tmp_path / "e-values.json", _run(np.random.default_rng(7))
    EValueStore(path).weigh("run-1")(evidence)
    whole = path.read_text()
    for broken in (whole[: len(whole) // 2], whole.replace('"log_peak"', '"peak"'), "{}"):
        path.write_text(broken)
        with pytest.raises(IntegrityError, match=r"e-values\.json"):
            EValueStore(path).weigh("run-2")(evidence)
        assert path.read_text() == broken


def test_a_history_takes_one_kind_of_evidence() -> None:
    pairs, noise = _run(np.random.default_rng(8))
    assert isinstance(noise, NoiseEvidence)
    with pytest.raises(ValueError, match="one kind"):
        counted(counted(None, pairs, run_id="1"), noise, run_id="2")


def test_no_lanes_are_no_evidence() -> None:
    nothing = PairEvidence("north", "membership", "", WAGERS, np.zeros(0), np.zeros(0))
    assert weigh_alone([nothing])[0].log_value == 0
