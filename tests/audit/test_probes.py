"""Probes beyond the zoo: their sources, their chance, and small faults of what they look at."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from seeded_noise import SeededNoise
from statistical import assert_rate
from zoo import planted

from sordino_audit.findings import Verdict
from sordino_audit.probes import (
    accounting,
    chance,
    fields,
    randomness,
    replay,
    site_probes,
    source_probes,
)
from sordino_audit.probes.found import Found
from sordino_audit.probes.self_test import self_test
from sordino_audit.probes.site_runs import Trial, run_trials
from sordino_audit.probes.sources import CoinsOnly, Constant, Replayed
from sordino_audit.probes.suite import EXACT, RANDOM, default_cases, observe
from sordino_audit.probes.trainer import Asked, Case, Trainer, engine, with_last, without_last
from sordino_audit.probes.trial_site import (
    RUN,
    TrialSite,
    made_up_dataset,
    make_people,
    trial_job,
)
from sordino_client.mechanisms import Engine
from sordino_client.self_test_record import fingerprint
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_client.training.sampling import Indices, poisson_sample
from sordino_client.training.steps import RoundResult
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.cross_check import check_accountants
from sordino_protocols.messages import Refusal, Refused, Update
from sordino_protocols.pricing import price

CASES = {case.name: case for case in default_cases(Performance())}
PLAIN = CASES["a small network"]


# --- sources


@pytest.mark.parametrize("source", [Constant(1.0), Replayed(1), CoinsOnly()])
def test_no_source_of_a_probe_claims_to_be_secure(source: Noise) -> None:
    assert not source.is_secure


def test_a_site_releases_nothing_that_was_replayed(tmp_path: Path) -> None:
    engine = Engine(Replayed(1), Performance())
    dataset = made_up_dataset(60, seed=1)
    site = TrialSite(tmp_path / "site", make_people(), engine, dataset=dataset)
    requests = site.requests()
    replies = {
        name: site.read(site.answer(site.envelope(requests[name])))
        for name in ("admission", "statistics", "round 1")
    }
    site.close()
    assert replies["round 1"] == replies["statistics"] == Refused(RUN, Refusal.INTERNAL)


def test_replayed_draws_are_shared_by_a_longer_data_set() -> None:
    short, long = Replayed(3), Replayed(3)
    for _ in range(2):
        assert np.array_equal(short.standard_normal(5), long.standard_normal(8)[:5])
        first = short.bernoulli(5, probability=0.5)
        assert np.array_equal(first, long.bernoulli(8, probability=0.5)[:5])
    assert not np.array_equal(Replayed(3).standard_normal(5), Replayed(4).standard_normal(5))


def test_replayed_draws_are_new_in_every_draw() -> None:
    source = Replayed(3)
    assert len(np.unique([source.standard_normal(10) for _ in range(5)])) == 50
    drawn = Replayed(3).discrete_gaussian(20, noise_std=50.0)
    assert np.array_equal(drawn, Replayed(3).discrete_gaussian(20, noise_std=50.0))
    assert len(np.unique(drawn)) > 5


def test_given_coins_are_tossed_whatever_the_rate() -> None:
    coins = np.array([True, False, True])
    for source in (Constant(0.0, coins), Replayed(1, coins)):
        assert source.bernoulli(2, probability=0.01).tolist() == [True, False]
        assert source.bernoulli(5, probability=0.99).tolist() == [True, False, True, True, False]


def test_a_constant_source_says_its_number() -> None:
    source = Constant(2.0)
    assert source.standard_normal(3).tolist() == [2.0, 2.0, 2.0]
    assert source.discrete_gaussian(2, noise_std=3.4).tolist() == [7, 7]
    assert CoinsOnly().discrete_gaussian(2, noise_std=3.4).tolist() == [0, 0]


def test_the_coins_of_the_product_come_at_their_rate() -> None:
    coins = CoinsOnly().bernoulli(20_000, probability=0.2)
    assert_rate(int(coins.sum()), 20_000, 0.2)


# --- made-up data


@pytest.mark.parametrize("name", sorted(CASES))
def test_fewer_units_are_the_first_of_more(name: str) -> None:
    case = CASES[name]
    few, many = case.units(5), case.units(9)
    assert np.array_equal(few.features, many.features[: len(few.features)])
    assert len(without_last(many)) == 8
    assert len(without_last(with_last(few, np.nan))) == 4


def test_the_trials_noise_costs_what_the_job_declares_at_most() -> None:
    job = trial_job()
    assert price(job).epsilon_pld <= job.file.guarantee.epsilon


# --- chance


def test_p_values_are_no_smaller_than_they_say() -> None:
    rng = np.random.default_rng(0)
    scales = [chance.scale_p_value(rng.normal(size=50)) for _ in range(1000)]
    rates = [chance.rate_p_value(int(rng.binomial(60, 0.3)), 60, 0.3) for _ in range(400)]
    for found in (scales, rates):
        assert_rate(int(np.sum(np.array(found) <= 0.05)), len(found), 0.05, at_most=True)


def test_a_wrong_scale_and_a_wrong_rate_have_small_p_values() -> None:
    rng = np.random.default_rng(1)
    assert chance.scale_p_value(0.9 * rng.normal(size=5000)) < chance.FALSE_ALARM
    assert chance.rate_p_value(400, 1000, 0.3) < chance.FALSE_ALARM
    assert chance.smallest([0.4, 0.01, 0.2]) == pytest.approx(0.03)


def test_what_is_no_number_is_never_likely() -> None:
    normal = np.random.default_rng(2).normal(size=50)
    broken = np.append(normal, np.nan)
    assert chance.scale_p_value(broken) == 0
    assert chance.ratio_p_value(normal, broken) == chance.ratio_p_value(broken, normal) == 0
    assert chance.ratio_p_value(normal, np.zeros(50)) == 0


def test_two_samples_of_one_scale_are_told_from_two_of_two() -> None:
    rng = np.random.default_rng(3)
    found = [chance.ratio_p_value(rng.normal(size=40), rng.normal(size=30)) for _ in range(1000)]
    assert_rate(int(np.sum(np.array(found) <= 0.05)), len(found), 0.05, at_most=True)
    longer = 1.2 * rng.normal(size=3000)
    assert chance.ratio_p_value(rng.normal(size=3000), longer) < chance.FALSE_ALARM


# --- trainers with a small fault


def no_number(asked: Asked) -> RoundResult:
    return RoundResult(np.full(len(asked.weights), np.nan), is_private=asked.noise.is_secure)


@pytest.mark.parametrize("name", sorted({*EXACT, *RANDOM} - {"coins as charged"}))
def test_a_release_that_is_no_number_passes_no_probe(name: str) -> None:
    case = CASES["clipped by layers"]
    found = {**EXACT, **RANDOM}[name](no_number, case)
    assert found is not None
    assert not found.is_passed


def shifted(asked: Asked) -> RoundResult:
    """A release that is off the grid by far less than its noise."""
    made = engine(asked)
    return RoundResult(made.vector + 1e-9, made.is_private)


def dishonest(asked: Asked) -> RoundResult:
    return RoundResult(engine(asked).vector, is_private=True)


def at_another_rate(asked: Asked) -> RoundResult:
    return engine(replace(asked, plan=replace(asked.plan, sampling_rate=0.22)))


def stretched(asked: Asked) -> RoundResult:
    """Whoever is in the batch, a canary's gradient is a thousandth too long."""
    made = engine(asked)
    made.vector[-asked.plan.lane_coordinates :] *= 1.001
    return made


def forgets_a_step(asked: Asked) -> RoundResult:
    return engine(replace(asked, plan=replace(asked.plan, local_steps=1)))


def counts_what_is_no_number(asked: Asked) -> RoundResult:
    """A record without a gradient is one with a gradient of zeros and a bias."""
    made = engine(asked)
    made.vector[0] += 0.1 * np.isnan(asked.units.features).any()
    return made


@pytest.mark.parametrize(
    ("trainer", "probe", "case"),
    [
        (shifted, randomness.grid, PLAIN),
        (dishonest, fields.release_fields, PLAIN),
        (at_another_rate, randomness.sampling, PLAIN),
        (at_another_rate, accounting.charged, PLAIN),
        (stretched, replay.canary, PLAIN),
        (forgets_a_step, replay.exact_steps, CASES["a delta of entities"]),
        (counts_what_is_no_number, replay.empty_record, PLAIN),
    ],
)
def test_a_small_fault_is_found(
    trainer: Trainer, probe: Callable[[Trainer, Case], Found | None], case: Case
) -> None:
    clean, found = probe(engine, case), probe(trainer, case)
    assert clean is not None
    assert found is not None
    assert clean.is_passed
    assert not found.is_passed


def paired(unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices:
    """Two units share a coin."""
    half = poisson_sample((unit_count + 1) // 2, sampling_rate=sampling_rate, noise=noise)
    both = np.sort(np.concatenate([2 * half, 2 * half + 1]))
    return both[both < unit_count]


def test_units_that_share_a_coin_are_found() -> None:
    def trainer(asked: Asked) -> RoundResult:
        with planted(sampler=paired):
            return engine(asked)

    assert not randomness.sampling(trainer, PLAIN).is_passed


def test_steps_that_share_their_coins_are_found() -> None:
    remembered: list[Indices] = []

    def sampler(unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices:
        if len(remembered) % 2 == 0:
            drawn = poisson_sample(unit_count, sampling_rate=sampling_rate, noise=noise)
        else:
            drawn = remembered[-1]
        remembered.append(drawn)
        return drawn

    def trainer(asked: Asked) -> RoundResult:
        with planted(sampler=sampler):
            return engine(asked)

    assert not randomness.sampling(trainer, PLAIN).is_passed


def test_a_probe_with_nothing_to_look_at_says_nothing() -> None:
    without_lanes = replace(PLAIN, plan=replace(PLAIN.plan, lanes=0))
    assert replay.canary(engine, without_lanes) is None
    assert replay.layer_sensitivity(engine, PLAIN) is None
    assert observe("silent", lambda: None) == ()


# --- the source of noise


def test_a_source_that_repeats_itself_is_found() -> None:
    assert source_probes.repeats().is_passed
    assert not source_probes.repeats(SeededNoise(4)).is_passed


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_output_of_a_case_proves_a_sum(name: str) -> None:
    assert source_probes.float_attack(CASES[name]).is_passed


# --- messages, prices


def test_a_field_that_nobody_declared_is_found() -> None:
    @dataclass(frozen=True)
    class Louder(Update):
        loss: float = 0.0

    assert fields.message_fields().is_passed
    declared = dict(fields.DECLARED)
    found = fields.message_fields({**declared, Louder: declared[Update] | {"vector"}})
    assert not found.is_passed
    assert "Louder.loss" in found.message


def test_an_answer_that_nobody_declared_is_found() -> None:
    declared = {kind: names for kind, names in fields.DECLARED.items() if kind is not Update}
    assert "Update" in fields.message_fields(declared).message


def test_accountants_that_disagree_are_found() -> None:
    assert accounting.accountants().is_passed
    cheap = partial(
        check_accountants, tight=lambda event, delta: 0.9 * epsilon_by_pld(event, delta)
    )
    assert not accounting.accountants(cheap).is_passed


# --- sites


def test_a_site_that_refuses_is_no_pass() -> None:
    with run_trials(Performance()) as (first, second):
        refused = Refused(RUN, Refusal.INTERNAL)
        broken = Trial(
            first.answers,
            {**first.replies, "evaluation": refused},
            first.repeated,
            first.held_out,
            first.dataset,
        )
        assert site_probes.answers(first, second).is_passed
        assert not site_probes.answers(broken, second).is_passed
        assert not site_probes.same_words(broken, second).is_passed


# --- the whole


def test_a_self_test_of_the_product_passes() -> None:
    tested = self_test(Performance())
    assert [each for each in tested.outcomes if not each.is_passed] == []
    assert tested.verdict is Verdict.LOOSE
    assert tested.exit_code == 0
    assert tested.fingerprint == fingerprint(Performance())
    assert tested.seconds > 0
    assert "%" in tested.could_have_found
    names = [each.name for each in tested.outcomes]
    assert len(set(names)) == len(names)
    assert {*EXACT, *RANDOM} <= {name.split(":")[0] for name in names}
