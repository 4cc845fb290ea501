"""Each fault of the zoo is found, by the probe that is for it; the product has none of them."""

import pytest
import zoo
import zoo_runs
import zoo_sites

from sordino_audit.findings import Verdict
from sordino_audit.probes import server_probes, site_probes
from sordino_audit.probes.randomness import sampling
from sordino_audit.probes.self_test import self_test
from sordino_audit.probes.site_runs import Trial, run_trials
from sordino_audit.probes.suite import default_cases, run_probes
from sordino_audit.probes.trainer import Case, engine
from sordino_audit.probes.trial_site import product_site, trial_job
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.clipping import FLAT, ClippingRule, PerLayerClipping

BY_LAYER = PerLayerClipping(kind="per_layer")

# The case and the probe that the fault is for; others may find it as well.
TRAINER_PROBES = {
    "noise divided by the batch size": ("a small network", "noise on every coordinate"),
    "sigma over the square root of two": ("a small network", "scale of secret noise"),
    "sigma a tenth too small": ("a small network", "scale of secret noise"),
    "a seed used in every round": ("a small network", "fresh noise"),
    "the averaged gradient is clipped": ("a small network", "sensitivity"),
    "each layer clipped to the whole norm": ("clipped by layers", "sensitivity of each layer"),
    "the last layer left out of the norm": ("a small network", "sensitivity"),
    "no noise on the last layer": ("a small network", "scale of secret noise"),
    "fixed batches accounted as Poisson": ("a small network", "sampling"),
    "no noise on an empty batch": ("a small network", "noise on every coordinate"),
    "the loss returned": ("a small network", "fields of a release"),
    "the count returned": ("a small network", "fields of a release"),
    "a scale that depends on the data set's size": ("a delta of entities", "size of the data set"),
    "a sensitivity that is not the clipping norm": ("a small network", "sensitivity"),
}
SITE_PROBES = {
    "a seed used in every round of a site": "noise of a site's updates",
    "one seed at all sites": "noise of a site's updates",
    "a site's count returned": "what else a site says",
    "an evaluation without noise": "noise of statistics and evaluation",
    "rounds charged for twice the noise": "charges",
    "releases that are not kept": "repeated requests",
}


def case_of(name: str) -> Case:
    return next(case for case in default_cases(Performance()) if case.name == name)


def failed(trials: tuple[Trial, Trial]) -> set[str]:
    assert site_probes.answers(*trials).is_passed
    return {name for name, probe in site_probes.OF_A_RUN.items() if not probe(*trials).is_passed}


def test_every_fault_has_its_probe() -> None:
    assert set(TRAINER_PROBES) == set(zoo.TRAINERS)
    assert set(SITE_PROBES) == set(zoo_sites.SITES)


@pytest.mark.parametrize("fault", sorted(TRAINER_PROBES))
def test_the_fault_of_a_trainer_is_found(fault: str) -> None:
    case, probe = TRAINER_PROBES[fault]
    outcomes = run_probes(zoo.TRAINERS[fault], cases=[case_of(case)])
    assert f"{probe}: {case}" in {each.name for each in outcomes if not each.is_passed}


@pytest.mark.parametrize("fault", sorted(SITE_PROBES))
def test_the_fault_of_a_site_is_found(fault: str) -> None:
    with run_trials(Performance(), zoo_sites.SITES[fault]) as trials:
        assert failed(trials) == {SITE_PROBES[fault]}


def test_a_site_that_divides_by_its_records_is_found() -> None:
    assert site_probes.site_scale(Performance()).is_passed
    with zoo_sites.site_divides_by_its_records():
        assert not site_probes.site_scale(Performance()).is_passed


@pytest.mark.parametrize("fault", sorted(zoo_sites.AGGREGATORS))
def test_the_fault_of_a_server_is_found(fault: str) -> None:
    plan = trial_job().plan.require_training()
    assert server_probes.normaliser(plan).is_passed
    assert not server_probes.normaliser(plan, zoo_sites.AGGREGATORS[fault]).is_passed


def test_no_probe_of_a_site_finds_anything_in_the_products() -> None:
    # The trainer's are in test_probes, with the whole self-test.
    with run_trials(Performance(), product_site) as trials:
        assert failed(trials) == set()


def test_batches_of_one_size_are_told_from_independent_coins() -> None:
    case = case_of("a small network")
    assert (
        "0.00 times" in sampling(zoo.TRAINERS["fixed batches accounted as Poisson"], case).message
    )


def test_a_self_test_of_a_fault_is_a_violation() -> None:
    tested = self_test(Performance(), trainer=zoo.TRAINERS["sigma a tenth too small"])
    assert tested.verdict is Verdict.VIOLATION
    assert tested.exit_code == 9


# --- what lanes see

LANE_FAULTS: dict[str, tuple[ClippingRule, str]] = {
    "noise divided by the batch size": (FLAT, "noise scale"),
    "sigma over the square root of two": (FLAT, "noise scale"),
    "sigma a tenth too small": (FLAT, "noise scale"),
    "the averaged gradient is clipped": (FLAT, "claimed curve"),
    "each layer clipped to the whole norm": (BY_LAYER, "signal by layer"),
    "the last layer left out of the norm": (BY_LAYER, "signal by layer"),
    "no noise on the last layer": (FLAT, "noise scale by layer"),
    "a seed used in every round": (FLAT, "repeated noise"),
    "a sensitivity that is not the clipping norm": (FLAT, "signal by layer"),
}


@pytest.mark.parametrize("fault", sorted(LANE_FAULTS))
def test_lanes_of_the_running_engine_show_the_fault(fault: str) -> None:
    rule, check = LANE_FAULTS[fault]
    audit = zoo_runs.audit(zoo.TRAINERS[fault], zoo_runs.run_case(rule))
    assert audit.verdict is Verdict.VIOLATION
    assert check in {finding.check for finding in audit.findings}


def test_lanes_show_one_seed_at_all_sites() -> None:
    audit = zoo_runs.audit(engine, zoo_runs.run_case(), noise=lambda: zoo.Forged(11))
    assert {finding.check for finding in audit.findings} == {"independent sites"}


@pytest.mark.parametrize("rule", [FLAT, BY_LAYER], ids=["flat", "by layer"])
def test_lanes_of_the_running_engine_are_no_violation(rule: ClippingRule) -> None:
    # A clean audit is a violation once in a thousand times: three in a row are no bad luck.
    case = zoo_runs.run_case(rule)
    assert any(zoo_runs.audit(engine, case).verdict is not Verdict.VIOLATION for _ in range(3))


def test_forged_noise_is_what_a_site_would_believe() -> None:
    sources: list[Noise] = [SecureNoise(), zoo.Forged(1)]
    assert all(source.is_secure for source in sources)
