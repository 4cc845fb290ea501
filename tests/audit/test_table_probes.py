"""Probes of a site that is asked for marginals: the product passes, a faulty site does not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from zoo_sites import CountingSite, forgetful, one_seed_for_all, without_evaluation_noise

from sordino_audit.probes import table_probes
from sordino_audit.probes.site_runs import run_trials
from sordino_audit.probes.trial_site import Parts, SiteMaker, product_site, table_job
from sordino_client.admitted import AdmittedRun
from sordino_client.mechanisms import Engine
from sordino_client.site import Site
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise, Words
from sordino_protocols.messages import Reply, Tabulated
from sordino_protocols.privacy import DiscreteGaussian, Event
from sordino_protocols.wire import Opened


class CheapSite(Site):
    """A site that charges for one count of many."""

    def _release(
        self,
        run: AdmittedRun,
        step: str,
        event: Event,
        asked: Opened,
        mechanism: Callable[[], Reply],
    ) -> bytes:
        del event
        return super()._release(run, step, DiscreteGaussian(50.0), asked, mechanism)


class PaddedSite(Site):
    """A site whose table has as many numbers as records."""

    def _release(
        self,
        run: AdmittedRun,
        step: str,
        event: Event,
        asked: Opened,
        mechanism: Callable[[], Reply],
    ) -> bytes:
        count = len(self._dataset(run.job).training.labels)

        def padded() -> Reply:
            made = mechanism()
            if not isinstance(made, Tabulated):
                return made
            return replace(made, numbers=made.numbers.repeat(2)[: len(made.numbers) + count])

        return super()._release(run, step, event, asked, padded)


class Quieter(SecureNoise):
    """Four fifths of the noise."""

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        return super().discrete_gaussian(count, noise_std=0.8 * noise_std)


def quieter(parts: Parts) -> Site:
    return product_site(replace(parts, engine=Engine(Quieter(), parts.engine.performance)))


def cheap(parts: Parts) -> Site:
    return product_site(parts, kind=CheapSite)


def padded(parts: Parts) -> Site:
    return product_site(parts, kind=PaddedSite)


def counting(parts: Parts) -> Site:
    return product_site(parts, kind=CountingSite)


def outcomes(make: SiteMaker) -> dict[str, bool]:
    with run_trials(Performance(), make, job=table_job()) as trials:
        probes = table_probes.OF_A_SYNTHESIS.items()
        return {name: probe(*trials).is_passed for name, probe in probes}


def test_the_product_passes() -> None:
    assert outcomes(product_site) == dict.fromkeys(table_probes.OF_A_SYNTHESIS, True)


def test_a_refused_run_is_told() -> None:
    with run_trials(Performance(), job=table_job()) as (first, second):
        broken = replace(first, replies={**first.replies, "table": first.replies["receipt"]})
        found = table_probes.answers(broken, second)
    assert not found.is_passed
    assert found.message == "table was answered with Receipt"


@pytest.mark.parametrize(
    ("make", "probe"),
    [
        (forgetful, "repeated requests for marginals"),
        (cheap, "charges of a synthesis"),
        (counting, "what else a site says of a synthesis"),
        (quieter, "noise of a site's marginals"),
        (one_seed_for_all, "noise of a site's marginals"),
        (without_evaluation_noise, "noise of a site's marginals"),
    ],
)
def test_a_faulty_site_is_found(make: SiteMaker, probe: str) -> None:
    assert not outcomes(make)[probe]


def test_a_table_whose_size_tells_of_records_is_found() -> None:
    with run_trials(Performance(), padded, job=table_job()) as trials:
        found = table_probes.OF_A_SYNTHESIS["what else a site says of a synthesis"](*trials)
    assert not found.is_passed
    assert "its size" in found.message
